"""Rotary frequencies are chosen once, when a replica is loaded; no request changes those of another.

transformers chooses between the sets of `longrope`, and stretches those of `dynamic`, by the longest position in a
batch. Here the length that counts is the longest that the replica serves, and what was chosen is never chosen again.
"""

from typing import Any


def choose_frequencies(config: Any, max_context_length: int) -> None:
    """Before a model is built of `config`: leave only the frequencies for contexts of this length."""
    for rope in _tables(config):
        if rope.get("rope_type") == "longrope":
            is_long = max_context_length > rope["original_max_position_embeddings"]
            rope["short_factor"] = rope["long_factor"] = rope["long_factor" if is_long else "short_factor"]


def keep_frequencies(model: Any) -> None:
    """After it is built: a kind that chooses by itself becomes one that does not."""
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        if isinstance(kind, dict):
            module.rope_type = {layer_type: _fixed(own) for layer_type, own in kind.items()}
        elif isinstance(kind, str):
            module.rope_type = _fixed(kind)


def _tables(config: Any) -> list[dict[str, Any]]:
    parameters = getattr(config, "rope_parameters", None) or {}
    return [parameters, *(value for value in parameters.values() if isinstance(value, dict))]


def _fixed(kind: str) -> str:
    return "default" if kind in {"dynamic", "longrope"} else kind
