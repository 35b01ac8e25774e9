from collections.abc import Mapping

import pytest

from runtime.llm.request import Batch, Request, ScheduledRequest
from runtime.llm.speculation.draft_model import TorchDraftModel
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import build_tiny_model

PROMPTS = [list(range(3, 3 + length)) for length in (1, BLOCK_SIZE, 2 * BLOCK_SIZE + 3)]
LENGTH = 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return TinyModel(build_tiny_model(tmp_path_factory.mktemp("llama"), "llama"))


@pytest.fixture(scope="module")
def expected(tiny: TinyModel) -> list[list[int]]:
    """What the model says greedily after each prompt."""
    requests = [make_request(prompt, request_id=str(i), max_tokens=16) for i, prompt in enumerate(PROMPTS)]
    return token_ids(run(tiny.engine(), requests))


def placed_requests(num_computed_tokens: int = 0) -> list[Request]:
    requests = [make_request(prompt, request_id=str(i)) for i, prompt in enumerate(PROMPTS)]
    for i, request in enumerate(requests):
        request.block_ids = list(range(1 + 10 * i, 11 + 10 * i))
        request.num_computed_tokens = num_computed_tokens
    return requests


def prefill(draft_model: TorchDraftModel, requests: list[Request]) -> None:
    """As if the target had computed the prompts in this step too, and put out their first tokens."""
    batch = Batch([ScheduledRequest(request, len(request.prompt_token_ids), True) for request in requests])
    assert draft_model.propose(batch, {}) == {}
    for request in requests:
        request.num_computed_tokens = len(request.prompt_token_ids)


def decode(
    draft_model: TorchDraftModel, requests: list[Request], lengths: Mapping[Request, int]
) -> dict[Request, list[int]]:
    return draft_model.propose(Batch([ScheduledRequest(request, 1, True) for request in requests]), lengths)


def put_out(request: Request, tokens: list[int]) -> None:
    request.output_token_ids += tokens
    request.num_computed_tokens = request.num_tokens - 1


def test_before_the_first_request_it_computes_what_is_compiled_then(tiny: TinyModel) -> None:
    attention = tiny.attention()
    attention.trial_spans = [(0, 3)]
    model = TorchDraftModel(tiny.model, attention, tiny.packing, vocab_size=tiny.info.vocab_size, relative_cost=0.1)
    model.warm_up()
    assert attention.caches[-1].flatten(1).any(dim=1).sum() == 3


def test_it_proposes_what_the_model_says_next(tiny: TinyModel, expected: list[list[int]]) -> None:
    draft_model, requests = tiny.draft_model(), placed_requests()
    prefill(draft_model, requests)
    for request, tokens in zip(requests, expected, strict=True):
        put_out(request, tokens[:1])
    lengths = dict(zip(requests, (LENGTH, 1, 2), strict=True))
    drafts = decode(draft_model, requests, lengths)
    assert drafts == {
        request: tokens[1 : 1 + lengths[request]] for request, tokens in zip(requests, expected, strict=True)
    }


@pytest.mark.parametrize("num_accepted", range(LENGTH + 1))
def test_it_goes_on_behind_whatever_part_of_a_draft_was_accepted(
    tiny: TinyModel, expected: list[list[int]], num_accepted: int
) -> None:
    draft_model, requests = tiny.draft_model(), placed_requests()
    prefill(draft_model, requests)
    for request, tokens in zip(requests, expected, strict=True):
        put_out(request, tokens[:1])
    decode(draft_model, requests, dict.fromkeys(requests, LENGTH))
    for request, tokens in zip(requests, expected, strict=True):
        put_out(request, tokens[1 : 2 + num_accepted])
    drafts = decode(draft_model, requests, dict.fromkeys(requests, LENGTH))
    start = 2 + num_accepted
    assert list(drafts.values()) == [tokens[start : start + LENGTH] for tokens in expected]


def test_it_follows_drafts_of_others_and_steps_without_any(tiny: TinyModel, expected: list[list[int]]) -> None:
    draft_model, requests = tiny.draft_model(), placed_requests()
    prefill(draft_model, requests)
    for request, tokens in zip(requests, expected, strict=True):
        put_out(request, tokens[:1])
    by_others = [
        ScheduledRequest(request, 1, True, tokens[1:4]) for request, tokens in zip(requests, expected, strict=True)
    ]
    assert draft_model.propose(Batch(by_others), {}) == {}
    for request, tokens in zip(requests, expected, strict=True):
        put_out(request, tokens[1:5])
    assert decode(draft_model, requests, {}) == {}
    for request, tokens in zip(requests, expected, strict=True):
        put_out(request, tokens[5:6])
    drafts = decode(draft_model, requests, dict.fromkeys(requests, 2))
    assert list(drafts.values()) == [tokens[6:8] for tokens in expected]
