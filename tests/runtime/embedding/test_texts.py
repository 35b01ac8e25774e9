from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from models.embedding_folder import inspect_embedding
from models.info import EmbeddingInfo
from runtime.embedding.request import Text
from runtime.embedding.texts import CHARACTERS_PER_TOKEN_MAX, Texts, load_tokenizer
from runtime.engine import LoadRefused, RequestRefused
from tests.fakes.tiny_embedder import CONTEXT_LENGTH, build_tiny_embedder


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_embedder(tmp_path_factory.mktemp("nomic"), "nomic")


@pytest.fixture
def info(directory: Path) -> EmbeddingInfo:
    return inspect_embedding(directory)


def _refusal(texts: Texts, inputs: list[Any]) -> str:
    with pytest.raises(RequestRefused) as refused:
        texts.encode(inputs, "")
    assert refused.value.param == "input"
    return refused.value.message


def test_strings_get_the_prompt_and_special_tokens_and_token_ids_go_in_as_they_are(
    directory: Path, info: EmbeddingInfo
) -> None:
    texts = Texts(directory, info, CONTEXT_LENGTH)
    own = texts.tokenizer.encode("search_query: a kettle").ids
    encoded = texts.encode(["a kettle", [5, 6], "b"], texts.prompt("query"))
    assert [text.token_ids for text in encoded[:2]] == [own, [5, 6]]
    assert texts.encode(["a kettle"], texts.prompt("query")) == encoded[:1]


def test_without_a_name_the_models_default_prompt_is_taken_and_unknown_names_are_refused(
    directory: Path, info: EmbeddingInfo
) -> None:
    texts = Texts(directory, info, CONTEXT_LENGTH)
    assert texts.prompt("") == "search_document: "
    with pytest.raises(RequestRefused, match="'nonesuch'; it has: document, query"):
        texts.prompt("nonesuch")
    assert Texts(directory, replace(info, default_prompt=""), 8).prompt("") == ""


def test_what_cannot_be_read_is_refused_by_its_place(directory: Path, info: EmbeddingInfo) -> None:
    texts = Texts(directory, info, CONTEXT_LENGTH)
    assert "input 1 has 65 tokens" in _refusal(texts, ["a", [1] * (CONTEXT_LENGTH + 1)])
    assert "input 0 has no tokens" in _refusal(texts, [[]])
    assert "input 1 holds a token id" in _refusal(texts, [[1], [info.vocab_size]])
    assert "input 0 holds a token id" in _refusal(texts, [[-1]])
    assert "characters" in _refusal(texts, ["a", " " * (CONTEXT_LENGTH * CHARACTERS_PER_TOKEN_MAX + 1)])
    assert texts.encode([""], "")[0].num_tokens == 2, "special tokens are text enough"


def test_a_prompt_that_is_not_pooled_is_counted_without_the_token_that_ends_texts(
    directory: Path, info: EmbeddingInfo
) -> None:
    texts = Texts(directory, replace(info, includes_prompt=False), CONTEXT_LENGTH)
    prompt = texts.prompt("query")
    num_prompt_tokens = len(texts.tokenizer.encode(prompt, add_special_tokens=False).ids) + 1
    assert texts.encode(["a", [5]], prompt) == [
        Text(texts.tokenizer.encode(prompt + "a").ids, num_unpooled=num_prompt_tokens),
        Text([5]),
    ]


def test_lower_case_where_the_model_asks_for_it(tmp_path: Path) -> None:
    directory = build_tiny_embedder(tmp_path, "e5")
    info = inspect_embedding(directory)
    upper, lower = load_tokenizer(directory, info), load_tokenizer(directory, replace(info, is_lowercased=True))
    assert upper.encode("THE").ids != upper.encode("the").ids
    assert lower.encode("THE").ids == upper.encode("the").ids


def test_a_tokenizer_that_cannot_be_used_is_a_reason_not_to_load(tmp_path: Path, info: EmbeddingInfo) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(LoadRefused, match=r"tokenizer\.json cannot be used"):
        load_tokenizer(tmp_path, info)
