from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.llm.engine import NO_SPECULATION, LlmEngine
from runtime.llm.request import Batch, Generation, Request, TokenOutput
from runtime.llm.speculation.speculator import ROWS_MAX, DraftModel
from runtime.settings import Speculation
from runtime.submission import SamplingParams
from tests.fakes.scripted_runner import (
    VOCAB_SIZE,
    ScriptedRunner,
    ScriptedStep,
    generate_alone,
    make_request,
    next_token_id,
)

BLOCK_SIZE = 4
NUM_STEPS_MAX = 2000
NGRAM = Speculation(ngram_length=2, num_draft_tokens=4)


class ScriptedDraftModel:
    """Proposes what comes next, with every `wrong_every`th token off by one."""

    relative_cost = 0.1

    def __init__(self, wrong_every: int) -> None:
        self._wrong_every = wrong_every
        self._num_proposed = 0

    def propose(self, batch: Batch, lengths: Mapping[Request, int]) -> dict[Request, list[int]]:
        assert lengths.keys() <= {row.request for row in batch.scheduled}
        drafts: dict[Request, list[int]] = {}
        for request, length in lengths.items():
            assert len(request.block_ids) * BLOCK_SIZE >= request.num_tokens + length, "no room for the draft's KV"
            draft = drafts[request] = []
            for _ in range(length):
                self._num_proposed += 1
                is_wrong = self._num_proposed % self._wrong_every == 0
                draft.append((next_token_id(request, draft) + is_wrong) % VOCAB_SIZE)
        return drafts


class RecordingRunner(ScriptedRunner):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.drafts: list[dict[str, list[int]]] = []
        """By step and request id."""

    def launch(self, batch: Batch) -> ScriptedStep:
        self.drafts.append({row.request.request_id: list(row.draft_token_ids) for row in batch.scheduled})
        return super().launch(batch)

    def longest(self, request_id: str) -> int:
        return max(len(drafts.get(request_id, [])) for drafts in self.drafts)


def build(
    *,
    num_blocks: int = 64,
    max_num_requests: int = 40,
    max_batch_tokens: int = 64,
    enable_prefix_cache: bool = True,
    speculation: Speculation = NO_SPECULATION,
    draft_model: DraftModel | None = None,
    look_ahead: bool = False,
    kind: type[RecordingRunner] = RecordingRunner,
) -> tuple[LlmEngine, RecordingRunner]:
    runner = kind(num_blocks, BLOCK_SIZE, max_num_requests=max_num_requests, max_batch_tokens=max_batch_tokens)
    engine = LlmEngine(
        runner,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        max_num_requests=max_num_requests,
        max_num_waiting=1000,
        max_num_waiting_tokens=100_000,
        max_batch_tokens=max_batch_tokens,
        enable_prefix_cache=enable_prefix_cache,
        cache_root=b"model",
        speculation=speculation,
        draft_model=draft_model,
        look_ahead=look_ahead,
    )
    return engine, runner


def drain(engine: LlmEngine) -> dict[str, list[TokenOutput]]:
    outputs: dict[str, list[TokenOutput]] = defaultdict(list)
    for _ in range(NUM_STEPS_MAX):
        if not engine.has_work():
            return outputs
        for output in engine.step():
            assert isinstance(output, TokenOutput)
            outputs[output.request_id].append(output)
        engine.check_integrity()
    raise AssertionError("the engine makes no progress")


def run(engine: LlmEngine, *requests: Request) -> dict[str, list[int]]:
    for request in requests:
        engine.add(Generation(request.request_id, [request]))
    return {request_id: [output.token_id for output in own] for request_id, own in drain(engine).items()}


def predicted(request_id: str, prompt: list[int], wrong_every: int = 1000, **options: Any) -> Request:
    """A request that was told its own output, but for some tokens."""
    request = make_request(prompt, request_id=request_id, **options)
    request.prediction = _altered(generate_alone(request), wrong_every)
    return request


def unending(request_id: str, prompt: list[int], wrong_every: int = 1000, **options: Any) -> Request:
    """Likewise; no token ends it."""
    request, alone = (make_request(prompt, request_id=request_id, **options) for _ in range(2))
    while len(alone.output_token_ids) < request.max_tokens:
        alone.output_token_ids.append(next_token_id(alone))
    request.prediction = _altered(alone.output_token_ids, wrong_every)
    request.stop_token_ids = frozenset()
    return request


def _altered(tokens: list[int], wrong_every: int) -> list[int]:
    return [(token_id + (i % wrong_every == wrong_every - 1)) % VOCAB_SIZE for i, token_id in enumerate(tokens)]


@settings(max_examples=200, deadline=None)
@given(
    num_blocks=st.sampled_from([12, 20, 64]),
    max_batch_tokens=st.sampled_from([1, 3, 7, 64]),
    enable_prefix_cache=st.booleans(),
    ngram_length=st.sampled_from([0, 2, 3]),
    wrong_every=st.sampled_from([1, 2, 5, 1000]),
    has_draft_model=st.booleans(),
    look_ahead=st.booleans(),
    calls=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(1, 20), st.booleans()),
        min_size=1,
        max_size=8,
    ),
)
def test_no_draft_changes_an_output(
    num_blocks: int,
    max_batch_tokens: int,
    enable_prefix_cache: bool,
    ngram_length: int,
    wrong_every: int,
    has_draft_model: bool,
    look_ahead: bool,
    calls: list[tuple[list[int], int, bool]],
) -> None:
    engine, _ = build(
        num_blocks=num_blocks,
        max_batch_tokens=max_batch_tokens,
        enable_prefix_cache=enable_prefix_cache,
        speculation=Speculation(ngram_length=ngram_length, num_draft_tokens=5),
        draft_model=ScriptedDraftModel(wrong_every) if has_draft_model else None,
        look_ahead=look_ahead,
    )
    requests = [
        predicted(str(i), prompt, wrong_every, max_tokens=max_tokens)
        if is_predicted
        else make_request(prompt, request_id=str(i), max_tokens=max_tokens)
        for i, (prompt, max_tokens, is_predicted) in enumerate(calls)
    ]
    assert run(engine, *requests) == {request.request_id: generate_alone(request) for request in requests}
    assert engine.stats().num_free_blocks == engine.stats().num_blocks


def test_choices_of_one_call_follow_the_prediction_each_on_its_own() -> None:
    engine, runner = build()
    choices = [make_request([1, 2, 3], index=i, seed=i, max_tokens=12) for i in range(3)]
    for choice in choices:
        choice.prediction = generate_alone(choices[1])
    engine.add(Generation("r", choices))
    outputs = drain(engine)["r"]
    for choice in choices:
        own = [output.token_id for output in outputs if output.index == choice.index]
        assert own == generate_alone(choice)
    assert runner.longest("r") > 0


def test_without_budget_or_free_blocks_nothing_is_drafted_and_nobody_is_preempted_for_it() -> None:
    engine, runner = build(max_batch_tokens=2)
    run(engine, unending("a", [1], max_tokens=8), unending("b", [2], max_tokens=8))
    both = [drafts for drafts in runner.drafts if len(drafts) == 2]
    assert both
    assert not any(draft for drafts in both for draft in drafts.values())

    engine, runner = build(num_blocks=7)
    requests = [unending(name, [1] * 4, max_tokens=7) for name in ("a", "b")]
    run(engine, *requests)
    assert [request.num_preemptions for request in requests] == [0, 0]


def test_many_decodes_draft_nothing_and_few_do_again() -> None:
    engine, runner = build(num_blocks=400, speculation=NGRAM)
    requests = [unending(str(i), [i], max_tokens=4) for i in range(ROWS_MAX + 1)]
    requests += [unending("long", [7, 7], max_tokens=20)]
    run(engine, *requests)
    for drafts in runner.drafts:
        assert len(drafts) <= ROWS_MAX or not any(drafts.values())
    assert runner.longest("long") > 0


def test_a_prediction_that_is_wrong_is_hardly_tried() -> None:
    engine, runner = build(num_blocks=200)
    request = unending("r", [1, 2], max_tokens=200, wrong_every=1)
    run(engine, request)
    assert sum(bool(drafts["r"]) for drafts in runner.drafts) <= 20
    assert len(runner.drafts) <= 201


def test_with_mirostat_nothing_is_drafted() -> None:
    engine, runner = build(speculation=NGRAM, draft_model=ScriptedDraftModel(1000))
    request = unending("r", [1, 2], max_tokens=10)
    request.sampling = SamplingParams(mirostat_target=4.0)
    run(engine, request)
    assert runner.longest("r") == 0


class EvenTokens:
    """A constraint that allows even tokens only, or fails at its own work."""

    def __init__(self, *, is_broken: bool = False) -> None:
        self.accepted: list[int] = []
        self._is_broken = is_broken

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        return False

    def accept(self, token_id: int) -> None:
        if self._is_broken:
            raise ZeroDivisionError
        if token_id % 2:
            raise ValueError("odd")
        self.accepted.append(token_id)

    def roll_back(self, num_tokens: int) -> None:
        del self.accepted[len(self.accepted) - num_tokens :]

    @property
    def is_complete(self) -> bool:
        return False


def drafts_under(constraint: EvenTokens, prediction: list[int]) -> list[int]:
    """What is drafted for a request's second token."""
    engine, runner = build(draft_model=ScriptedDraftModel(1000))
    request = make_request([1, 2, 3], max_tokens=20)
    request.stop_token_ids = frozenset()
    request.prediction = [next_token_id(request), *prediction]
    engine.add(Generation("r", [request]))
    engine.step()
    request.constraint = constraint
    constraint.accepted.append(0)
    engine.step()
    return runner.drafts[1]["r"]


def test_a_draft_ends_before_the_first_token_that_the_constraint_does_not_allow() -> None:
    constraint = EvenTokens()
    assert drafts_under(constraint, [4, 6, 7, 8]) == [4, 6]
    assert constraint.accepted[0] == 0, "what was tried was rolled back"


def test_a_constraint_that_fails_under_a_draft_costs_the_draft_and_not_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert drafts_under(EvenTokens(is_broken=True), [4, 6]) == []
    assert "drafting for request r failed" in caplog.text


class FlakyRunner(RecordingRunner):
    """Fails every third step, before and after it has written."""

    def launch(self, batch: Batch) -> ScriptedStep:
        if len(self.drafts) % 3 == 2:
            self.drafts.append({})
            raise MemoryError("device")
        return super().launch(batch)


def test_a_step_that_failed_is_repeated_with_its_drafts() -> None:
    engine, _ = build(speculation=NGRAM, draft_model=ScriptedDraftModel(3), kind=FlakyRunner)
    request = predicted("r", [1, 2, 3, 4, 5], 4, max_tokens=20)
    engine.add(Generation("r", [request]))
    tokens: list[int] = []
    while engine.has_work():
        try:
            tokens += [output.token_id for output in engine.step() if isinstance(output, TokenOutput)]
        except MemoryError:
            pass
        engine.check_integrity()
    assert tokens == generate_alone(request)


def test_steps_run_ahead_only_while_nobody_may_be_guessed_for() -> None:
    engine, runner = build(speculation=NGRAM, look_ahead=True)
    few = [make_request([1, 2, 3, i], request_id=str(i), max_tokens=4) for i in range(ROWS_MAX)]
    for request in few:
        engine.add(Generation(request.request_id, [request]))
    drain(engine)
    assert runner.num_run_ahead == 0
    many = [make_request([1, 2, 3, i], request_id=str(i), max_tokens=9) for i in range(ROWS_MAX + 9)]
    for request in many:
        request.stop_token_ids = frozenset()
        engine.add(Generation(request.request_id, [request]))
    found = drain(engine)
    assert runner.num_run_ahead > 0
    for request in many:
        expected = generate_alone(request)
        assert [output.token_id for output in found[request.request_id]][: len(expected)] == expected
