from pathlib import Path

import pytest

from runtime.engine import RequestRefused
from runtime.llm.predictions import predicted_tokens
from runtime.llm.vocabulary import Vocabulary
from runtime.message import FailureCode
from tests.fakes.tiny_llm import BOS_TOKEN_ID, VOCAB_SIZE, build_tiny_tokenizer


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    build_tiny_tokenizer().save_pretrained(directory)
    return Vocabulary.load(directory)


def test_a_text_becomes_its_tokens_and_no_others(vocabulary: Vocabulary) -> None:
    tokens = predicted_tokens("the hearth glows", vocabulary, VOCAB_SIZE, 100)
    assert BOS_TOKEN_ID not in tokens
    assert b"".join(map(vocabulary.token_bytes, tokens)) == b"the hearth glows"
    assert predicted_tokens("", vocabulary, VOCAB_SIZE, 100) == []


def test_what_no_answer_could_reach_is_left_out(vocabulary: Vocabulary) -> None:
    text = "the hearth glows" * 100_000
    assert predicted_tokens(text, vocabulary, VOCAB_SIZE, 5) == predicted_tokens(text[:100], vocabulary, VOCAB_SIZE, 5)
    assert predicted_tokens(list(range(10)), vocabulary, VOCAB_SIZE, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("token_ids", [[-1], [VOCAB_SIZE], [3, 2**31]])
def test_ids_that_are_no_tokens_are_refused_by_name(vocabulary: Vocabulary, token_ids: list[int]) -> None:
    with pytest.raises(RequestRefused) as refusal:
        predicted_tokens(token_ids, vocabulary, VOCAB_SIZE, 10)
    assert (refusal.value.code, refusal.value.param) == (FailureCode.INVALID, "speculation")
    assert predicted_tokens([0, VOCAB_SIZE - 1], vocabulary, VOCAB_SIZE, 10) == [0, VOCAB_SIZE - 1]
