"""Steps that were captured once and are replayed since: the device is told of a whole forward at once, which takes the
host no time where launching each kernel by itself would take longer than the device computes.

Owns the graphs of one model, the memory that they read a step's numbers from and the one that they leave results in;
both are the same for all of them. A size is captured when it has come up often, or in a pause; until then, and when
capturing fails, its steps run as they would without graphs. What a captured step reads must stay where it is, so all
are dropped before memory is given back. The sampler and images are never in a graph.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.llm.attention_work import WorkCounts
from runtime.llm.forward_context import StepAttention, StepPlan, use_attention
from runtime.llm.graph_sizes import Counts, GraphSize, GraphSizes
from runtime.llm.network import Inputs, Network, Numbers, Outputs
from runtime.llm.staging import Array, Layout, Place, Staging

logger = logging.getLogger(__name__)

_NOTHING = Numbers(*(np.empty(0, dtype=np.int64) for _ in range(3)))
_HITS_MIN = 3
"""Steps of a size before a request waits for its capture, which takes as long as several steps."""


class Capturer(Protocol):
    """Makes graphs that share memory; `cuda_graphs.py` in earnest."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Run `function` at least once, and return what repeats its work on the same memory.

        Raises RuntimeError when it does what cannot be captured, or the device is out of memory.
        """

    def size_bytes(self) -> int:
        """Of all that was captured, on the device."""

    def release(self) -> None:
        """What was captured is gone, and its memory can be given back."""


class PaddablePlan(StepPlan, Protocol):
    """Of a back end of attention whose programs follow tables of any length."""

    @property
    def counts(self) -> WorkCounts: ...

    def padded(self, num_tokens: int, room: WorkCounts) -> Sequence[NDArray[np.int32]]:
        """The tables, in the shapes of `table_shapes`; the last may be shorter."""

    def table_shapes(self, num_tokens: int, room: WorkCounts) -> Sequence[tuple[int, ...]]: ...

    def begin_padded(self, tables: Sequence[torch.Tensor], room: WorkCounts) -> StepAttention:
        """For all steps that are in `tables` one after another."""


class PaddableAttention(Protocol):
    def plan(self, spans: list[Any]) -> PaddablePlan: ...


class _Results(NamedTuple):
    """Memory for what a captured step leaves."""

    hidden_states: torch.Tensor
    """[1, tokens, hidden size]"""
    logits: torch.Tensor
    decoded_class: Any
    """What the decoder wraps hidden states in."""

    @classmethod
    def like(cls, outputs: Outputs, num_tokens: int, num_logits: int) -> "_Results":
        assert outputs.logits is not None
        hidden_states = outputs.decoded.last_hidden_state
        return cls(
            hidden_states.new_zeros(1, num_tokens, hidden_states.shape[2]),
            outputs.logits.new_zeros(num_logits, outputs.logits.shape[1]),
            type(outputs.decoded),
        )

    def take(self, outputs: Outputs) -> None:
        assert outputs.logits is not None
        hidden_states = outputs.decoded.last_hidden_state
        self.hidden_states[:, : hidden_states.shape[1]].copy_(hidden_states)
        self.logits[: len(outputs.logits)].copy_(outputs.logits)

    def first(self, num_tokens: int, num_logits: int) -> Outputs:
        return Outputs(
            self.decoded_class(last_hidden_state=self.hidden_states[:, :num_tokens]), self.logits[:num_logits]
        )


class StepGraph:
    """One captured step."""

    def __init__(self, room: Counts, memory: "_InputMemory", results: _Results, replay: Callable[[], None]) -> None:
        self._room = room
        self._memory = memory
        self._results = results
        self._replay = replay

    def bring(self, staging: Staging, numbers: Numbers, plan: PaddablePlan) -> Inputs:
        """To where the replayed step reads; until it is replayed, what is there may still be changed."""
        self._memory.bring(staging, self._room, numbers, plan)
        return self._memory.inputs

    def replay(self, num_logits: int) -> Outputs:
        """Valid until the next graph is replayed."""
        self._replay()
        return self._results.first(self._room.num_tokens, num_logits)


class _InputMemory:
    """Where the numbers of steps that have this much room lie."""

    def __init__(self, memory: torch.Tensor, layout: Layout) -> None:
        self._memory = memory
        self._layout = layout
        token_ids, positions, logit_rows, *tables = layout.views(memory)
        self.inputs = Inputs(token_ids, positions, logit_rows, tables)

    def bring(self, staging: Staging, room: Counts, numbers: Numbers, plan: PaddablePlan) -> None:
        lengths = (room.num_tokens, room.num_tokens, room.num_logits)
        arrays = [_with_zeros(array, length) for array, length in zip(numbers, lengths, strict=True)]
        staging.bring_into(self._memory, self._layout, [*arrays, *plan.padded(room.num_tokens, room.work)])


class StepGraphs:
    """`sizes` that may be captured, together in about `budget_bytes`."""

    def __init__(
        self,
        network: Network,
        attention: PaddableAttention,
        capturer: Capturer,
        sizes: GraphSizes,
        *,
        device: torch.device,
        budget_bytes: int,
    ) -> None:
        self._network = network
        self._attention = attention
        self._capturer = capturer
        self._sizes = sizes
        self._device = device
        self._budget_bytes = budget_bytes
        self._staging = Staging(device)
        self._graphs: dict[GraphSize, StepGraph] = {}
        self._num_hits: Counter[GraphSize] = Counter()
        """Of sizes that are not captured."""
        self._refused: set[GraphSize] = set()
        """That cannot be captured."""
        self._is_off = False
        self._is_full = False
        self._memory: torch.Tensor | None = None
        """For a step's numbers, whatever its size."""
        self._results: _Results | None = None
        self._smallest = sizes.all()[0]
        self._num_tokens_max = max(size.num_tokens for size in sizes.all())

    def find(
        self, plan: PaddablePlan, num_tokens: int, num_logits: int, *, has_adapters: bool = False
    ) -> StepGraph | None:
        """One that holds the step, captured now if it is time; None: it is to be computed without.

        Called while the step's adapters are applied, so that with them they are in the graph.
        """
        if self._is_off:
            return None
        size = self._sizes.smallest(Counts(num_tokens, num_logits, plan.counts))
        if size is None:
            return None
        size = size._replace(has_adapters=has_adapters)
        if size not in self._graphs and not self._is_full and size not in self._refused:
            self._num_hits[size] += 1
            if self._num_hits[size] >= _HITS_MIN:
                self._capture(size)
        return self._graphs.get(size)

    def capture_next(self) -> bool:
        """In a pause, without adapters: the largest size that has come up, whose memory then serves the others as well.

        Returns whether there are more.
        """
        sizes = sorted(size for size in self._num_hits if not size.has_adapters)
        if sizes:
            self._capture(sizes[-1])
        return bool(sizes[:-1]) and not self._is_full

    def warm_up(self) -> None:
        """Capture the step of one token, so that the first request has it. A model which fails at it has no graphs."""
        self._capture(self._smallest)
        self._is_off = self._smallest in self._refused

    def release(self) -> None:
        """Memory is about to be given back. What was captured will have to come up again."""
        self._graphs.clear()
        self._num_hits.clear()
        self._memory = self._results = None
        self._is_full = False
        self._capturer.release()

    def allocate(self) -> None:
        """Memory is back."""
        if not self._is_off:
            self._num_hits[self._smallest] = 1  # for the next pause

    def _capture(self, size: GraphSize) -> None:
        del self._num_hits[size]
        try:
            with torch.inference_mode():
                self._graphs[size] = self._captured(size)
        except RuntimeError:
            logger.warning("%s cannot be captured and stays without graph", size, exc_info=True)
            self._refused.add(size)
        if self._capturer.size_bytes() > self._budget_bytes:
            logger.info("%d graphs fill the memory that is set aside for them", len(self._graphs))
            self._is_full = True
            self._num_hits.clear()

    def _captured(self, size: GraphSize) -> StepGraph:
        """Of a step of nothing but padding, which reads no memory of requests and writes none."""
        room = self._sizes.room(size)
        plan = self._attention.plan([])
        memory = self._input_memory(plan, room)
        memory.bring(self._staging, room, _NOTHING, plan)

        def compute() -> Outputs:
            with use_attention(plan.begin_padded(memory.inputs.tables, room.work)):
                decoded = self._network.decode(memory.inputs.by_name())
            return Outputs(decoded, self._network.logits(decoded, memory.inputs.logit_rows))

        if self._results is None:
            self._results = _Results.like(compute(), self._num_tokens_max, self._sizes.max_num_logits)
        results = self._results
        return StepGraph(room, memory, results, self._capturer.capture(lambda: results.take(compute())))

    def _input_memory(self, plan: PaddablePlan, room: Counts) -> _InputMemory:
        if self._memory is None:
            num_bytes = max(_layout(plan, self._sizes.room(size)).num_bytes for size in self._sizes.all())
            self._memory = torch.zeros(num_bytes, dtype=torch.uint8, device=self._device)
        return _InputMemory(self._memory, _layout(plan, room))


def _layout(plan: PaddablePlan, room: Counts) -> Layout:
    int32, int64 = np.dtype(np.int32), np.dtype(np.int64)
    own = [Place((size,), int64) for size in (room.num_tokens, room.num_tokens, room.num_logits)]
    return Layout([*own, *(Place(shape, int32) for shape in plan.table_shapes(room.num_tokens, room.work))])


def _with_zeros(array: Array, length: int) -> Array:
    padded = np.zeros(length, dtype=array.dtype)
    padded[: len(array)] = array
    return padded
