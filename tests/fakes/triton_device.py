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
    """The interpreter takes the bits of a bfloat16 for an integer when it multiplies tiles; and whenever a function is
    called within a kernel it wraps all of the language once more, which takes longer each time."""
    patch_language, create_dot = interpreter._patch_lang, interpreter.InterpreterBuilder.create_dot
    patch_language(SimpleNamespace(__globals__={"language": tl, "core": tl.core}))

    def create_wide_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return create_dot(self, _widened(a), _widened(b), *rest)

    interpreter._patch_lang = lambda function: SimpleNamespace(restore=lambda: None)
    interpreter.InterpreterBuilder.create_dot = create_wide_dot


def _widened(tile: Any) -> Any:
    if tile.dtype.scalar != tl.bfloat16:
        return tile
    return interpreter.TensorHandle((tile.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


if IS_INTERPRETED:
    _mend()
