"""Where tests run Triton's kernels: on a GPU where there is one, else in Triton's interpreter, mended.

`tests/conftest.py` chooses, before triton is imported.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton import knobs
from triton.runtime import interpreter

IS_INTERPRETED = bool(knobs.runtime.interpret)
DEVICE = torch.device("cpu" if IS_INTERPRETED else "cuda")


def _mend() -> None:
    """The interpreter takes the bits of a bfloat16 for an integer when it multiplies tiles, and loses what is carried
    when it rounds to 8-bit floats; and whenever a function is called within a kernel it wraps all of the language once
    more, which takes longer each time."""
    create_conversion = interpreter.InterpreterBuilder.create_fp_to_fp
    patch_language, create_dot = interpreter._patch_lang, interpreter.InterpreterBuilder.create_dot
    patch_language(SimpleNamespace(__globals__={"language": tl, "core": tl.core}))

    def create_wide_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return create_dot(self, _widened(a), _widened(b), *rest)

    def create_rounded_conversion(self: Any, source: Any, target: Any, rounding: Any) -> Any:
        if (source.dtype.scalar, target.scalar) != (tl.float32, tl.float8e4nv):
            return create_conversion(self, source, target, rounding)
        rounded = torch.from_numpy(source.data.copy()).to(torch.float8_e4m3fn).view(torch.uint8)
        return interpreter.TensorHandle(rounded.numpy(), tl.float8e4nv)

    interpreter.InterpreterBuilder.create_fp_to_fp = create_rounded_conversion
    interpreter._patch_lang = lambda function: SimpleNamespace(restore=lambda: None)
    interpreter.InterpreterBuilder.create_dot = create_wide_dot


def _widened(tile: Any) -> Any:
    if tile.dtype.scalar != tl.bfloat16:
        return tile
    return interpreter.TensorHandle((tile.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


if IS_INTERPRETED:
    _mend()
