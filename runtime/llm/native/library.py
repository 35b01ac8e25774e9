"""What is in C, as Python calls it: the structures of its headers, and its functions where they were compiled.

Pointers are numbers that `data_ptr` gave; whoever fills a structure keeps alive what it points to.
"""

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any

import torch

from runtime.llm.native.build import library_path

logger = logging.getLogger(__name__)

AMX_INPUTS = 32
"""Of one instruction; `amx.h`."""
HEAD_SIZE_MAX = 256
HEADS_PER_KV_HEAD_MAX = 64
"""`attention.c`."""

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class Scale(ctypes.Structure):
    _fields_ = (("weight", _POINTER), ("epsilon", _FLOAT), ("is_shifted", ctypes.c_int32))


class Rotation(ctypes.Structure):
    _fields_ = (("cosine", _POINTER), ("signed_sine", _POINTER))


class Linear(ctypes.Structure):
    _fields_ = (
        ("weight", _POINTER),
        ("bias", _POINTER),
        *((name, _INT) for name in ("num_inputs", "num_outputs", "is_for_amx")),
    )


class Batch(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("spans", "blocks", "slots")),
        *((name, _INT) for name in ("num_spans", "num_tokens", "block_size")),
    )


class Asked(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("spans", "rows")),
        *((name, _INT) for name in ("num_spans", "num_rows")),
    )


class Heads(ctypes.Structure):
    _fields_ = (
        *((name, _INT) for name in ("num_heads", "num_kv_heads", "size", "window")),
        ("sinks", _POINTER),
        *((name, _FLOAT) for name in ("scaling", "softcap")),
        ("is_for_amx", ctypes.c_int32),
    )


class Tokens(ctypes.Structure):
    _fields_ = (("numbers", _POINTER), ("stride", _INT))


class Layer(ctypes.Structure):
    _fields_ = (
        *((name, Scale) for name in ("attention_norm", "query_norm", "key_norm", "mlp_norm")),
        *((name, Linear) for name in ("query_key_value", "attention_output", "gate_up", "mlp_output")),
        ("heads", Heads),
    )


class Memory(ctypes.Structure):
    _fields_ = tuple((name, _POINTER) for name in ("normed", "projected", "attended", "gated"))


_FUNCTIONS: dict[str, list[Any]] = {
    "pack_weight": [_POINTER] * 3,
    "multiply_rows": [_POINTER] * 3 + [_INT],
    "add_norm_rows": [_POINTER] * 3 + [_INT] * 2 + [_POINTER],
    "gate_rows": [_POINTER] * 2 + [_INT] * 2,
    "rotate_rows": [_POINTER] + [_INT] * 5 + [_POINTER] * 3,
    "attend": [_POINTER] * 2 + [Tokens] * 3 + [_POINTER] * 2,
    "find_greatest_of_rows": [_POINTER] + [_INT] * 3 + [_POINTER],
    "compute_layers": [_POINTER] * 2 + [_INT] + [_POINTER] * 6,
}
"""The types of what each takes; structures come by `byref`, but for tokens. None gives anything back."""


@cache
def load(library: Path | None = None) -> ctypes.CDLL | None:
    """None where it was not compiled, or is for another processor."""
    library = library_path() if library is None else library
    if not library.exists() or not torch.cpu._is_avx512_bf16_supported():
        return None
    try:
        # Its OpenMP is the one that torch has brought along, so both have the same threads.
        loaded = ctypes.CDLL(str(library))
        for name, types in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = types, None
    except (OSError, AttributeError) as error:
        logger.warning("%s cannot be loaded, so CPUs serve language models at a lower speed: %s", library, error)
        return None
    return loaded


@cache
def has_amx() -> bool:
    """Whether this process may use it, from now on."""
    return bool(torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx())


def suits_amx(num_inputs: int) -> bool:
    """Whether products of so many inputs are computed by AMX."""
    return num_inputs % AMX_INPUTS == 0 and has_amx()


def functions() -> ctypes.CDLL:
    """For who has been told that they are there."""
    loaded = load()
    assert loaded is not None, "nothing was compiled"
    return loaded
