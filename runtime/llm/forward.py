"""One forward of a model over rows of tokens of several requests, flattened into a single sequence.

Tells attention where each row's keys are, and computes logits only where they are asked for. A step whose size was
captured is replayed (`graphs.py`), any other computed layer by layer; its numbers come to the device in one copy either
way. Knows token ids, positions and block tables; nothing of requests, drafts or sampling.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.llm.adapters.adaptation import Adaptation
from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.block_pool import TRASH_BLOCK
from runtime.llm.forward_context import StepPlan, use_attention
from runtime.llm.graphs import PaddablePlan, StepGraph, StepGraphs
from runtime.llm.network import Inputs, Network, Numbers, Outputs
from runtime.llm.request import Adapter, PromptImage
from runtime.llm.staging import Staging
from runtime.llm.transfer import to_device


class TokenRow(NamedTuple):
    """Tokens that follow one another in one request."""

    token_ids: Sequence[int]
    start: int
    """Position of the first; the keys of all tokens before it are stored."""
    block_ids: Sequence[int]
    images: Sequence[PromptImage] = ()
    """The request's, wherever in it they are."""
    adapter: Adapter | None = None
    follows: int | None = None
    """The first token is this one of those sampled by the step before; what `token_ids` says of it is of no meaning."""


class Vision(Protocol):
    """What is different about the inputs of a vision-language model; `vision/inputs.py`."""

    def adapt(self, inputs: dict[str, Any], rows: Sequence[TokenRow]) -> None:
        """Exchange token ids for embeddings, and plain positions for those of the model, where there is need."""


class Followers(Protocol):
    """Processes that compute the same on other devices, each a part of it; `parallel/leader.py`."""

    def compute(self, rows: Sequence[TokenRow], logit_rows: Sequence[int]) -> None: ...

    def logits(self, positions: list[int]) -> None: ...


class Forward:
    """`model` is a `…ForCausalLM` whose attention is `attention.attend`; without `adaptation` no row has an adapter.

    With `graphs` there is no `vision`, and what `attention` plans can be padded. With `followers` it is a part of a
    model, and they are told of every computation before it begins.
    """

    def __init__(
        self,
        model: Any,
        attention: GatherAttention,
        vision: Vision | None = None,
        adaptation: Adaptation | None = None,
        graphs: StepGraphs | None = None,
        followers: Followers | None = None,
    ) -> None:
        assert graphs is None or vision is None, "no image is in a graph"
        self._network = Network(model)
        self._attention = attention
        self._staging = Staging(attention.device)
        self._vision = vision
        self._adaptation = adaptation
        self._graphs = graphs
        self._followers = followers

    def compute(
        self,
        rows: Sequence[TokenRow],
        logit_rows: Sequence[int] = (),
        sampled: torch.Tensor | None = None,
        *,
        asked_rows: Sequence[int] | None = None,
    ) -> "Computed":
        """Store the KV of every token. `logit_rows`: tokens of the flattened batch whose logits will be asked for;
        `sampled`: by the step before, of which some rows follow tokens; `asked_rows`, ascending: all whose logits may
        be asked for, so that the last layer need not be computed for others; None: any."""
        if self._followers is not None:
            assert all(row.follows is None for row in rows), "they know only the host's tokens"
            self._followers.compute(rows, logit_rows)
        flat = _flatten(rows)
        plan = self._attention.plan(flat.spans)
        numbers = Numbers(flat.token_ids, flat.positions, np.array(logit_rows, dtype=np.int64))
        with torch.inference_mode(), self._adapted(rows):
            graph = self._graph(rows, plan, numbers)
            inputs = self._bring(numbers, plan, graph)
            if sampled is not None:
                _fill_in(inputs.token_ids, rows, sampled)
            outputs = self._run(rows, plan, inputs, asked_rows) if graph is None else graph.replay(len(logit_rows))
        return Computed(self._network, self._staging, outputs, list(logit_rows), self._followers)

    def warm_up(self, max_context_length: int) -> None:
        """Compile what is compiled when it is first needed, and capture the smallest step."""
        for start, num_tokens in self._attention.trial_spans:
            if start + num_tokens <= max_context_length:
                num_blocks = -(-(start + num_tokens) // self._attention.block_size)
                self.compute([TokenRow([0] * num_tokens, start, [TRASH_BLOCK + 1] * num_blocks)], [0])
        if self._graphs is not None:
            with self._adapted(()):
                self._graphs.warm_up()

    def rest(self) -> bool:
        """Use a pause; whether there is more to do."""
        if self._graphs is None:
            return False
        with self._adapted(()):  # what the last step had is not in the next graph
            return self._graphs.capture_next()

    def _graph(self, rows: Sequence[TokenRow], plan: StepPlan, numbers: Numbers) -> StepGraph | None:
        if self._graphs is None:
            return None
        has_adapters = any(row.adapter is not None for row in rows)
        if has_adapters and (self._adaptation is None or not self._adaptation.is_replayable):
            return None
        return self._graphs.find(
            cast("PaddablePlan", plan), len(numbers.token_ids), len(numbers.logit_rows), has_adapters=has_adapters
        )

    def _adapted(self, rows: Sequence[TokenRow]) -> AbstractContextManager[None]:
        return nullcontext() if self._adaptation is None else self._adaptation.applied(rows)

    def _bring(self, numbers: Numbers, plan: StepPlan, graph: StepGraph | None) -> Inputs:
        if graph is not None:
            return graph.bring(self._staging, numbers, cast("PaddablePlan", plan))
        token_ids, positions, logit_rows, *tables = self._staging.bring([*numbers, *plan.tables])
        return Inputs(token_ids, positions, logit_rows, tables)

    def _run(
        self, rows: Sequence[TokenRow], plan: StepPlan, inputs: Inputs, asked_rows: Sequence[int] | None
    ) -> Outputs:
        by_name = inputs.by_name()
        if self._vision is not None:
            self._vision.adapt(by_name, rows)
        asked = None if asked_rows is None else np.array(asked_rows, dtype=np.int64)
        with use_attention(plan.begin(inputs.tables), asked):
            decoded = self._network.decode(by_name)
        if not len(inputs.logit_rows):
            return Outputs(decoded, None)
        return Outputs(decoded, self._network.logits(decoded, inputs.logit_rows))


def _fill_in(token_ids: torch.Tensor, rows: Sequence[TokenRow], sampled: torch.Tensor) -> None:
    """Put tokens that only the device knows where the host could not."""
    places: list[int] = []
    sources: list[int] = []
    first = 0
    for row in rows:
        if row.follows is not None:
            places.append(first)
            sources.append(row.follows)
        first += len(row.token_ids)
    if places:
        where, which = to_device(np.array([places, sources], dtype=np.int64), token_ids.device)
        token_ids.index_copy_(0, where, sampled.index_select(0, which))


class Computed:
    """What the decoder made of a flattened batch; valid until the next one is computed."""

    def __init__(
        self,
        network: Network,
        staging: Staging,
        outputs: Outputs,
        logit_rows: list[int],
        followers: Followers | None = None,
    ) -> None:
        self._network = network
        self._staging = staging
        self._outputs = outputs
        self._logit_rows = logit_rows
        """Of the logits that are there."""
        self._followers = followers

    def logits(self, positions: list[int]) -> torch.Tensor:
        """[positions, vocabulary]: what follows the tokens at these positions of the flattened batch; of no meaning
        where it was said that nobody asks for them."""
        if self._outputs.logits is not None and positions == self._logit_rows:
            return self._outputs.logits
        if self._followers is not None:
            self._followers.logits(positions)
        with torch.inference_mode():
            (rows,) = self._staging.bring([np.array(positions, dtype=np.int64)])
            return self._network.logits(self._outputs.decoded, rows)


class _Flat(NamedTuple):
    """Rows one behind another."""

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    spans: list[Span]


def _flatten(rows: Sequence[TokenRow]) -> _Flat:
    lengths = np.array([len(row.token_ids) for row in rows])
    stops = np.cumsum(lengths)
    firsts = stops - lengths
    # Positions of a row begin at its own start, places in the batch at its first.
    offsets = np.array([row.start for row in rows]) - firsts
    positions = np.arange(stops[-1]) + np.repeat(offsets, lengths)
    token_ids = np.fromiter(chain.from_iterable(row.token_ids for row in rows), dtype=np.int64, count=int(stops[-1]))
    spans = [
        Span(first, len(row.token_ids), row.start, row.block_ids)
        for first, row in zip(firsts.tolist(), rows, strict=True)
    ]
    return _Flat(token_ids, positions, spans)
