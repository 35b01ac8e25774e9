"""Speculation of every kind against the same engine without it: the same tokens, in fewer steps.

All in float32, where a step of several rows gives the tokens of several steps (`verification.py`).
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from runtime.llm.engine import NO_SPECULATION
from runtime.llm.request import Generation, Request, TokenOutput
from runtime.settings import Speculation
from runtime.submission import SamplingParams
from tests.fakes.tiny_engine import BLOCK_SIZE, GREEDY, TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import VOCAB_SIZE, build_tiny_model

NUM_NEW_TOKENS = 16
PROMPT_LENGTHS = [1, BLOCK_SIZE, 3 * BLOCK_SIZE + 5]
SAMPLINGS = [
    GREEDY,
    SamplingParams(temperature=0.9, top_p=0.95, top_k=40),
    SamplingParams(temperature=0.8, repetition_penalty=1.3, frequency_penalty=0.5, presence_penalty=0.2),
]


class Reference:
    """What each prompt gives by each way of sampling, without speculation."""

    def __init__(self, target: TinyModel, other: TinyModel) -> None:
        self.target = target
        self.other = other
        """Same vocabulary, other weights: as a draft model it is nearly always wrong."""
        generator = torch.Generator().manual_seed(7)
        prompts = [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]
        self.cases = [(prompt, sampling) for sampling in SAMPLINGS for prompt in prompts]
        """The greedy ones first."""
        self.expected = token_ids(run(target.engine(), self.requests([[]] * len(self.cases))))

    def requests(self, predictions: Sequence[Sequence[int]]) -> list[Request]:
        """One for each prediction."""
        cases = list(zip(self.cases, predictions, strict=False))
        return [
            make_request(
                prompt,
                request_id=str(i),
                max_tokens=NUM_NEW_TOKENS,
                sampling=sampling,
                seed=i,
                prediction=prediction,
            )
            for i, ((prompt, sampling), prediction) in enumerate(cases)
        ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    target, other = (
        TinyModel(build_tiny_model(tmp_path_factory.mktemp(f"llama{seed}"), "llama", seed=seed)) for seed in (0, 1)
    )
    return Reference(target, other)


def altered(token_ids: list[int], every: int) -> list[int]:
    return [(token_id + (i % every == every - 1)) % VOCAB_SIZE for i, token_id in enumerate(token_ids)]


@pytest.mark.parametrize("every", [1, 3, 8, 1000])
def test_a_prediction_changes_no_token_however_much_of_it_holds(reference: Reference, every: int) -> None:
    requests = reference.requests([altered(tokens, every) for tokens in reference.expected])
    assert token_ids(run(reference.target.engine(), requests)) == reference.expected


@pytest.mark.parametrize("edit", ["inserted", "deleted", "begins later", "too long"])
def test_an_edited_prediction_changes_no_token(reference: Reference, edit: str) -> None:
    expected = reference.expected[: len(PROMPT_LENGTHS)]
    make: Callable[[list[int]], list[int]] = {
        "inserted": lambda tokens: [*tokens[:5], 5, 6, 7, *tokens[5:]],
        "deleted": lambda tokens: [*tokens[:4], *tokens[7:]],
        "begins later": lambda tokens: [11, 12, 13, *tokens],
        "too long": lambda tokens: [*tokens, *tokens, *tokens],
    }[edit]
    requests = reference.requests([make(tokens) for tokens in expected])
    assert token_ids(run(reference.target.engine(), requests)) == expected


@pytest.mark.parametrize("num_draft_tokens", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["n-gram", "good draft model", "bad draft model", "all at once"])
def test_speculation_changes_no_token(reference: Reference, kind: str, num_draft_tokens: int) -> None:
    ngram_length = 3 if kind in ("n-gram", "all at once") else 0
    drafters = {"good draft model": reference.target, "bad draft model": reference.other}
    drafters["all at once"] = reference.other
    engine = reference.target.engine(
        speculation=Speculation(num_draft_tokens=num_draft_tokens, ngram_length=ngram_length),
        draft_model=drafters[kind].draft_model() if kind in drafters else None,
    )
    predictions = [altered(tokens, 3) if kind == "all at once" else [] for tokens in reference.expected]
    requests = reference.requests(predictions)
    assert token_ids(run(engine, requests, steps_between=num_draft_tokens % 2)) == reference.expected


@pytest.mark.parametrize("enable_prefix_cache", [True, False])
@pytest.mark.parametrize("max_batch_tokens", [3, 64])
@pytest.mark.parametrize("has_draft_model", [True, False])
def test_small_budgets_and_small_pools_change_no_token(
    reference: Reference, has_draft_model: bool, max_batch_tokens: int, enable_prefix_cache: bool
) -> None:
    num_blocks = 8
    engine = reference.target.engine(
        num_blocks=num_blocks,
        max_batch_tokens=max_batch_tokens,
        enable_prefix_cache=enable_prefix_cache,
        speculation=Speculation(num_draft_tokens=4, ngram_length=2),
        draft_model=reference.target.draft_model(num_blocks) if has_draft_model else None,
    )
    expected = reference.expected[: len(PROMPT_LENGTHS)]
    num_preemptions = 0
    for _ in range(2):  # the second time prompts and drafted tokens are found in the cache
        requests = reference.requests([altered(tokens, 5) for tokens in expected])
        assert token_ids(run(engine, requests[::-1])) == expected[::-1]
        num_preemptions += sum(request.num_preemptions for request in requests)
    assert num_preemptions > 0


@pytest.mark.parametrize("kind", ["prediction", "draft model"])
def test_right_guesses_save_most_steps_and_the_figures_say_so(reference: Reference, kind: str) -> None:
    (prompt, _), expected = reference.cases[2], reference.expected[2]
    is_prediction = kind == "prediction"
    engine = reference.target.engine(
        speculation=NO_SPECULATION if is_prediction else Speculation(num_draft_tokens=8),
        draft_model=None if is_prediction else reference.target.draft_model(),
    )
    request = make_request(prompt, max_tokens=NUM_NEW_TOKENS, prediction=expected if is_prediction else [])
    engine.add(Generation(request.request_id, [request]))
    steps = []
    while engine.has_work():
        steps.append(engine.step())
    assert len(steps) <= NUM_NEW_TOKENS // 3
    last = steps[-1][-1]
    assert isinstance(last, TokenOutput)
    assert last.performance is not None
    assert last.performance.num_accepted_tokens == last.performance.num_drafted_tokens >= NUM_NEW_TOKENS // 2
    assert last.performance.num_predicted_tokens == (NUM_NEW_TOKENS if is_prediction else 0)
    assert last.performance.num_predicted_accepted == (last.performance.num_accepted_tokens if is_prediction else 0)


def test_a_stop_token_inside_an_accepted_draft_ends_the_request_there(reference: Reference) -> None:
    (prompt, _), expected = reference.cases[1], reference.expected[1]
    position = next(i for i, token in enumerate(expected) if i >= 4 and token not in expected[:i])
    request = make_request(prompt, max_tokens=NUM_NEW_TOKENS, prediction=expected)
    request.stop_token_ids = frozenset({expected[position]})
    (outputs,) = run(reference.target.engine(), [request])
    assert token_ids([outputs]) == [expected[: position + 1]]
    assert [output.finish_reason for output in outputs] == [None] * position + ["stop"]


@pytest.mark.parametrize("max_tokens", [1, 2, 5])
def test_max_tokens_ends_a_request_inside_a_draft(reference: Reference, max_tokens: int) -> None:
    (prompt, _), expected = reference.cases[1], reference.expected[1]
    (outputs,) = run(reference.target.engine(), [make_request(prompt, max_tokens=max_tokens, prediction=expected)])
    assert token_ids([outputs]) == [expected[:max_tokens]]
    assert outputs[-1].finish_reason == "length"


def test_logprobs_of_accepted_tokens_are_those_without_speculation(reference: Reference) -> None:
    (prompt, _), expected = reference.cases[1], reference.expected[1]
    (plain,), (drafted,) = (
        run(reference.target.engine(), [make_request(prompt, num_logprobs=2, prediction=prediction)])
        for prediction in ([], expected)
    )
    for one, other in zip(plain, drafted, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [token_id for token_id, _ in one.top] == [token_id for token_id, _ in other.top]


def test_blocks_with_accepted_tokens_are_found_again_by_the_next_turn(reference: Reference) -> None:
    (prompt, _), expected = reference.cases[2], reference.expected[2]
    engine = reference.target.engine()
    run(engine, [make_request(prompt, max_tokens=NUM_NEW_TOKENS, prediction=altered(expected, 6))])
    turn = [*prompt, *expected, 9, 9, 9]
    again = make_request(turn)
    found = run(engine, [again])
    assert again.num_cached_tokens == (len(prompt) + len(expected) - 1) // BLOCK_SIZE * BLOCK_SIZE
    assert token_ids(found) == token_ids(run(reference.target.engine(), [make_request(turn)]))


class NoneTwiceInARow:
    """Of three classes of tokens none may come twice in a row: what is allowed depends on what came last."""

    def __init__(self) -> None:
        self._accepted: list[int] = []

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        bits = [not self._accepted or token_id % 3 != self._accepted[-1] % 3 for token_id in range(32 * len(mask))]
        mask[:] = np.packbits(bits, bitorder="little").view(np.int32)
        return True

    def accept(self, token_id: int) -> None:
        if self._accepted and token_id % 3 == self._accepted[-1] % 3:
            raise ValueError("the same class twice")
        self._accepted.append(token_id)

    def roll_back(self, num_tokens: int) -> None:
        del self._accepted[len(self._accepted) - num_tokens :]

    @property
    def is_complete(self) -> bool:
        return False


def test_a_constraint_holds_along_a_draft_and_the_tokens_stay_the_same(reference: Reference) -> None:
    def constrained(predictions: Sequence[Sequence[int]]) -> list[Request]:
        requests = reference.requests(predictions)
        for request in requests:
            request.constraint = NoneTwiceInARow()
        return requests

    plain = token_ids(run(reference.target.engine(), constrained([[]] * len(reference.cases))))
    assert plain != reference.expected
    engine = reference.target.engine(
        speculation=Speculation(ngram_length=2), draft_model=reference.target.draft_model()
    )
    predictions = [altered(tokens, 4) if i % 2 else [] for i, tokens in enumerate(plain)]
    outputs = run(engine, constrained(predictions))
    assert token_ids(outputs) == plain
    assert sum(own[-1].performance.num_accepted_tokens for own in outputs if own[-1].performance) > 0
