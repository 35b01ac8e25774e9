"""What config.json says of rotary embeddings, checked: which kind, how much of a head they turn, how far they reach.

Kinds whose frequencies depend on a length (`dynamic`, `longrope`) are served with the frequencies of one length, chosen
when a replica is loaded: transformers would choose by the longest request in a batch.
"""

import math
from typing import Any, NamedTuple

from models.refusal import CONFIG, ModelRefused, RefusalReason, invalid_config

# Parameters that each kind needs beside its base.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
    "longrope": (),
}
_FACTOR_LISTS = ("short_factor", "long_factor")
_FACTOR_MAX = 1024


class Rotary(NamedTuple):
    num_rotated: int
    """Elements at the start of each head that are turned."""
    max_context_length: int
    """What the model was trained for; with YaRN, what its scaling extends that to."""


def read_rotary(
    parameters: dict[str, Any],
    *,
    head_size: int,
    max_position_embeddings: int,
    default_fraction: float | None,
    original_length: int | None = None,
) -> Rotary:
    """`default_fraction` of a head is turned unless the parameters say otherwise; None: always the whole head.

    `original_length` is what the config says beside the parameters; it wins over what they say.
    """
    rope = dict(parameters)
    rope_type = rope.pop("rope_type", rope.pop("type", "default"))
    if not isinstance(rope_type, str) or rope_type not in PARAMETERS:
        message = f"rotary embeddings of type {str(rope_type)[:40]!r} are not supported; {', '.join(PARAMETERS)} are"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)
    for name, value in rope.items():
        if not (value is None or isinstance(value, int | float) or name in _FACTOR_LISTS):
            raise invalid_config(f"the rotary embedding's {name[:40]!r} is not a number")
    numbers = {name: _positive(rope, name) for name in PARAMETERS[rope_type]}
    if rope.get("rope_theta") is not None:
        _positive(rope, "rope_theta")
    num_rotated = _num_rotated(rope, head_size, default_fraction)
    if rope_type not in {"yarn", "longrope"}:
        return Rotary(num_rotated, max_position_embeddings)
    original = original_length or rope.get("original_max_position_embeddings", max_position_embeddings)
    if type(original) is not int or not 1 <= original <= max_position_embeddings:
        raise invalid_config("original_max_position_embeddings of the rotary embedding is not a length in the context")
    if rope_type == "longrope":
        for name in _FACTOR_LISTS:
            _check_factors(rope, name, num_rotated // 2)
        return Rotary(num_rotated, max_position_embeddings)
    reached = math.floor(original * min(numbers["factor"], _FACTOR_MAX))
    return Rotary(num_rotated, max(max_position_embeddings, reached))


def _num_rotated(rope: dict[str, Any], head_size: int, default_fraction: float | None) -> int:
    stated = rope.get("partial_rotary_factor")
    if default_fraction is None and stated not in {None, 1.0}:
        message = "heads that are rotated in part (partial_rotary_factor) are not supported in this architecture"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)
    fraction = float(stated or default_fraction or 1.0) if stated != 0 else 0.0
    num_rotated = int(head_size * fraction) if 0 < fraction <= 1 else 0
    if num_rotated < 2 or num_rotated % 2:
        message = f"a rotary embedding cannot turn {fraction} of heads of {head_size} elements: not an even number"
        raise invalid_config(message)
    return num_rotated


def _positive(rope: dict[str, Any], name: str) -> float:
    value = rope.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        raise invalid_config(f"the rotary embedding's {name} is not a positive number")
    return float(value)


def _check_factors(rope: dict[str, Any], name: str, num_frequencies: int) -> None:
    factors = rope.get(name)
    if not isinstance(factors, list) or len(factors) != num_frequencies:
        raise invalid_config(f"the rotary embedding's {name} is not a list of {num_frequencies} numbers")
    for factor in factors:
        _positive({name: factor}, name)
