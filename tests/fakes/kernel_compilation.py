"""Compiles the kernels that something launches, for a GPU that is not here; nothing runs.

For programs of their own: where tests run, triton may interpret its kernels (`tests/conftest.py`), and in one process
it compiles for one GPU.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from triton import runtime
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

SHARED_BYTES_MAX = 96 * 1024
"""That GPUs which compute bfloat16 have for one program."""


def compile_launches(launch: Callable[[], object], capability: int) -> list[Any]:
    """triton's kernels in the order in which `launch` launches them."""
    driver = SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", capability, 32),
    )
    runtime.driver.set_active(driver)
    compiled: list[Any] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        compiled.append(run(self, *args, grid=grid, warmup=True, **options))
        return compiled[-1]

    JITFunction.run = compile_only
    try:
        launch()
    finally:
        JITFunction.run = run
    return compiled
