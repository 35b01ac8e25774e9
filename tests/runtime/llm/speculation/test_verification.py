import numpy as np
import pytest
import torch

from runtime.llm.request import Request, SampledToken
from runtime.llm.sampler import SampledRow, processed_probabilities, sample
from runtime.llm.speculation.verification import accepted_part
from runtime.submission import SamplingParams

VOCAB_SIZE = 5
NUM_DRAWS = 3000
CHI_SQUARE_MAX = 51.2
"""With 24 degrees of freedom exceeded once in a thousand times; the seeds are fixed."""


def chosen(*token_ids: int) -> list[SampledToken]:
    return [SampledToken(token_id, None, []) for token_id in token_ids]


@pytest.mark.parametrize(
    ("draft", "choices", "accepted"),
    [
        ([], [], []),
        ([], [4], [4]),
        ([1, 2], [1, 2, 3], [1, 2, 3]),
        ([1, 2], [1, 9, 3], [1, 9]),
        ([1, 2], [9, 2, 3], [9]),
    ],
)
def test_tokens_stand_up_to_the_first_that_was_not_guessed(
    draft: list[int], choices: list[int], accepted: list[int]
) -> None:
    assert [token.token_id for token in accepted_part(chosen(*choices), draft)] == accepted


@pytest.mark.parametrize(
    ("sampling", "draft"),
    [
        (SamplingParams(temperature=1.0), [0]),
        (SamplingParams(temperature=0.7, top_k=4, top_p=0.95), [3]),
        (SamplingParams(temperature=1.0, frequency_penalty=0.8, repetition_penalty=1.2), [4]),
    ],
    ids=["plain", "truncated", "penalised"],
)
def test_with_any_draft_two_tokens_have_the_targets_distribution(sampling: SamplingParams, draft: list[int]) -> None:
    """A model of five tokens whose next one depends on the last: the pair of tokens that follow a prompt."""
    generator = torch.Generator().manual_seed(3)
    logits_after = torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=generator)
    observed = np.zeros((VOCAB_SIZE, VOCAB_SIZE))
    for seed in range(NUM_DRAWS):
        first, second = _two_tokens(logits_after, sampling, seed, draft)
        observed[first, second] += 1
    expected = NUM_DRAWS * _joint(logits_after, sampling)
    is_possible = expected > 0
    assert observed[~is_possible].sum() == 0
    assert ((observed - expected)[is_possible] ** 2 / expected[is_possible]).sum() < CHI_SQUARE_MAX


def test_a_seed_gives_the_same_tokens_whatever_was_drafted() -> None:
    logits_after = torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=torch.Generator().manual_seed(4))
    sampling = SamplingParams(temperature=1.0, presence_penalty=0.5)
    for seed in range(50):
        results = {_two_tokens(logits_after, sampling, seed, draft) for draft in ([], [0], [1], [2], [3], [4])}
        assert len(results) == 1


def _request(sampling: SamplingParams, seed: int) -> Request:
    return Request(request_id="r", prompt_token_ids=[2], sampling=sampling, seed=seed, max_tokens=2)


def _two_tokens(logits_after: torch.Tensor, sampling: SamplingParams, seed: int, draft: list[int]) -> tuple[int, int]:
    """By as many steps as it takes: the first with the draft, which may bring both."""
    request = _request(sampling, seed)
    while len(request.output_token_ids) < 2:
        guesses = draft if not request.output_token_ids else []
        context = [*request.token_ids(request.num_tokens - 1, request.num_tokens), *guesses]
        rows = [SampledRow.of(request, guesses[:length]) for length in range(len(guesses) + 1)]
        step = accepted_part(sample(logits_after[context], rows).tokens(), guesses)
        request.output_token_ids += [token.token_id for token in step]
    first, second = request.output_token_ids[:2]
    return first, second


def _joint(logits_after: torch.Tensor, sampling: SamplingParams) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    request = _request(sampling, 0)
    (first,) = processed_probabilities(logits_after[2:3], [SampledRow.of(request)]).double().numpy()
    joint = np.zeros((VOCAB_SIZE, VOCAB_SIZE))
    for token_id in range(VOCAB_SIZE):
        row = SampledRow.of(request, [token_id])
        joint[token_id] = first[token_id] * processed_probabilities(logits_after[[token_id]], [row])[0].double().numpy()
    return joint
