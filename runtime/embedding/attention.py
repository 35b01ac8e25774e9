"""The attention that transformers' encoders and decoders call: over all texts of a step at once, each seeing itself.

Nothing is kept from one step to the next. Which texts a step has is known to its layout, a module-level variable,
because not every model passes keyword arguments down to its layers. Only the engine's thread runs a step.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.functional import scaled_dot_product_attention

from runtime.embedding.layout import Layout, Run

NAME = "hearth_texts"
"""Registered with transformers under this name. No mask belongs to it, so transformers builds none."""

_current: Layout | None = None


@contextmanager
def use_layout(layout: Layout) -> Iterator[None]:
    """For one forward."""
    global _current
    _current = layout
    try:
        yield
    finally:
        _current = None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Tensors come as [1, heads, tokens, head size]; the result goes as [1, tokens, heads, head size].

    A window counts the token itself, and reaches as far ahead as back where a token sees those behind it.
    """
    assert _current is not None, "attention outside of a step"
    assert attention_mask is None, "a mask would say what only the layout knows"
    assert options.get("softcap") is None, "no model served here caps its scores"
    _current.note_layer()
    config = module.config
    is_causal = bool(module.is_causal) and getattr(config, "is_causal", True)
    tensors = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    outputs = [
        _attend_run(run, *tensors, scaling=scaling, is_causal=is_causal, window=sliding_window) for run in _current.runs
    ]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).unsqueeze(0), None


def _attend_run(
    run: Run,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scaling: float,
    is_causal: bool,
    window: int | None,
) -> torch.Tensor:
    """From and to [tokens, heads, head size]."""
    mask = run.mask(is_causal=is_causal, window=window)
    output = scaled_dot_product_attention(
        _spread(query, run),
        _spread(key, run),
        _spread(value, run),
        attn_mask=mask,
        is_causal=is_causal and mask is None and run.longest > 1,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    ).transpose(1, 2)
    return output.reshape(-1, *output.shape[2:]) if run.is_even else output[run.kept]


def _spread(tensor: torch.Tensor, run: Run) -> torch.Tensor:
    """[texts, heads, longest, head size] of the run's part of [tokens, heads, head size]."""
    if run.is_even:
        spread = tensor[run.start : run.stop].reshape(run.num_texts, run.longest, *tensor.shape[1:])
    else:
        spread = tensor[run.places]
    return spread.transpose(1, 2)
