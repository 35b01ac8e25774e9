"""Structures of C from what layers are made of. They point into tensors, which must outlive them."""

import torch

from runtime.llm.forward_context import Scoring
from runtime.llm.native import library
from runtime.llm.patches.operations import Rotation, Scale


def point_scale(scale: Scale | None) -> library.Scale:
    """None: there is no norm."""
    if scale is None:
        return library.Scale()
    return library.Scale(scale.weight.data_ptr(), scale.epsilon, scale.is_shifted)


def point_rotation(rotation: Rotation) -> library.Rotation:
    cosine, signed_sine = rotation
    return library.Rotation(cosine.data_ptr(), signed_sine.data_ptr())


def describe_heads(num_heads: int, num_kv_heads: int, size: int, scoring: Scoring) -> library.Heads:
    """Sinks are in float32."""
    return library.Heads(
        num_heads,
        num_kv_heads,
        size,
        scoring.sliding_window or 0,
        None if scoring.sinks is None else scoring.sinks.data_ptr(),
        scoring.scaling,
        scoring.softcap or 0.0,
        library.suits_amx(size),
    )


def point_tokens(heads: torch.Tensor) -> library.Tokens:
    """[tokens, heads, size], each token's heads side by side."""
    return library.Tokens(heads.data_ptr(), heads.stride(0))
