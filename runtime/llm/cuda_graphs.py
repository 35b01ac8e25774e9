"""CUDA's side of `graphs.py`: how a function's work on the device becomes a graph, and which models get graphs.

All graphs take their memory from one pool, where each may use what others have left, for no two of them run at once.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

from models.info import ModelInfo
from models.sizing import graph_bytes, graph_rows
from runtime.llm.graph_sizes import GraphSizes
from runtime.llm.graphs import PaddablePlan, StepGraphs
from runtime.llm.network import Network
from runtime.settings import LlmSettings

_DRIVER_BYTES_MAX = 64 * 1024 * 1024
"""That the driver keeps of one graph; what free memory shrinks by beyond this is taken by other processes."""


@runtime_checkable
class TiledAttention(Protocol):
    """A back end whose plans can be padded; `attention_triton.py` in earnest."""

    device: torch.device

    @property
    def tokens_per_tile(self) -> int: ...

    def plan(self, spans: list[Any]) -> PaddablePlan: ...


def choose_graphs(model: Any, attention: object, info: ModelInfo, settings: LlmSettings) -> StepGraphs | None:
    """None: off, no CUDA, another back end of attention, or a model that sees. Nothing is captured yet."""
    if not settings.enable_graphs or info.vision is not None:
        return None
    if not isinstance(attention, TiledAttention) or attention.device.type != "cuda":
        return None
    sizes = GraphSizes(
        max_num_logits=graph_rows(settings.max_num_requests),
        max_batch_tokens=settings.max_batch_tokens,
        tokens_per_tile=attention.tokens_per_tile,
    )
    budget_bytes = graph_bytes(info, settings.dtype, settings.max_batch_tokens, settings.max_num_requests)
    capturer = CudaCapturer(attention.device)
    return StepGraphs(Network(model), attention, capturer, sizes, device=attention.device, budget_bytes=budget_bytes)


class CudaCapturer:
    """Implements `graphs.Capturer`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # as torch has it
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._num_bytes = 0
        self._is_tried = False

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        self._try_out(function)
        torch.cuda.empty_cache()
        free_bytes, reserved_bytes = self._free_bytes(), torch.cuda.memory_reserved(self._device)
        graph = torch.cuda.CUDAGraph()
        # Other threads of this process may ask the driver for something meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            function()
        torch.cuda.synchronize(self._device)
        taken = free_bytes - self._free_bytes()
        for_tensors = max(0, torch.cuda.memory_reserved(self._device) - reserved_bytes)
        self._num_bytes += min(max(taken, for_tensors), for_tensors + _DRIVER_BYTES_MAX)
        self._graphs.append(graph)
        return graph.replay

    def size_bytes(self) -> int:
        return self._num_bytes

    def release(self) -> None:
        for graph in self._graphs:
            graph.reset()
        self._graphs.clear()
        self._num_bytes = 0
        self._pool = torch.cuda.graph_pool_handle()

    def _try_out(self, function: Callable[[], None]) -> None:
        """On the stream that captures, so that kernels are compiled and libraries have their workspaces.

        A model that waits for the device is found out at its first step, where it is an exception and nothing worse.
        Not later: the mode holds for all threads, and by then others may be loading adapters.
        """
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode(mode if self._is_tried else "error")
        self._is_tried = True
        try:
            with torch.cuda.stream(self._stream):
                function()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        torch.cuda.synchronize(self._device)

    def _free_bytes(self) -> int:
        return torch.cuda.mem_get_info(self._device)[0]
