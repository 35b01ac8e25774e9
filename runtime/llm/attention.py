"""The attention function that transformers' models call: from its layout to the engine's, and on to the back end.

Back ends are sibling files `attention_*.py`; which one runs a step is known to `forward_context.py`.
"""

import torch

from runtime.llm.forward_context import Scoring, current_attention

NAME = "hearth_paged"
"""Registered with transformers under this name. No mask belongs to it, so transformers builds none."""


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
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Tensors come as [1, heads, tokens, head size]; the result goes as [1, tokens, heads, head size].

    `s_aux` is what transformers calls attention sinks: [heads], a score of each.
    """
    assert attention_mask is None, "a mask would say what only the block tables know"
    assert not dropout, "this engine does not train"
    output = current_attention().attend(
        int(module.layer_idx),  # type: ignore[arg-type]
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        Scoring(scaling, sliding_window, softcap, s_aux),
    )
    return output.unsqueeze(0), None
