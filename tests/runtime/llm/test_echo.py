import pytest

from runtime.llm.echo import Echo
from runtime.llm.request import SampledToken
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import TokenLogprob, TopLogprob
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer

TOKENIZER = build_byte_level_tokenizer()
VOCABULARY = Vocabulary(TOKENIZER.to_str().encode())
A, B, C = (TOKENIZER.token_to_id(token) for token in "abc")
PROMPT = [A, B, C]


@pytest.mark.parametrize(("num_tokens", "expected"), [(0, []), (1, [C]), (2, [B, C]), (3, PROMPT), (99, PROMPT)])
def test_the_last_tokens_are_echoed_and_without_logprobs_nothing_is_missing(
    num_tokens: int, expected: list[int]
) -> None:
    echo = Echo(VOCABULARY, PROMPT, num_tokens, has_logprobs=False)
    assert (echo.token_ids, echo.logprobs, echo.num_missing) == (expected, [], 0)


def test_logprobs_come_from_the_engine_but_for_the_first_token_of_the_prompt() -> None:
    echo = Echo(VOCABULARY, PROMPT, 3, has_logprobs=True)
    assert echo.num_missing == 2
    echo.tell([SampledToken(B, -0.5, [(A, -0.25)]), SampledToken(C, -2.0, [])])
    assert echo.num_missing == 0
    assert echo.logprobs == [
        TokenLogprob(token_id=A, token=b"a", logprob=None),
        TokenLogprob(token_id=B, token=b"b", logprob=-0.5, top=[TopLogprob(token_id=A, token=b"a", logprob=-0.25)]),
        TokenLogprob(token_id=C, token=b"c", logprob=-2.0),
    ]


def test_a_part_of_the_prompt_waits_for_all_its_logprobs() -> None:
    assert Echo(VOCABULARY, PROMPT, 2, has_logprobs=True).num_missing == 2


def test_a_prompt_of_one_token_is_told_at_once() -> None:
    echo = Echo(VOCABULARY, [A], 1, has_logprobs=True)
    assert (echo.num_missing, len(echo.logprobs)) == (0, 1)
