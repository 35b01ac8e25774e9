import json
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from runtime.engine import LoadRefused
from runtime.llm.vocabulary import Vocabulary
from tests.fakes.tiny_tokenizers import (
    END_TOKEN,
    PLAIN_ADDED_TOKEN,
    build_byte_level_tokenizer,
    build_sentencepiece_tokenizer,
)


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    return Vocabulary(tokenizer.to_str().encode())


def test_byte_level_tokens_stand_for_their_bytes() -> None:
    tokenizer = build_byte_level_tokenizer()
    vocabulary = vocabulary_of(tokenizer)
    for text in ["the hearth", "\n\t\x00\x7f", "glühend", "炉火🔥", "👩‍🚒"]:
        token_ids = vocabulary.encode(text, add_special_tokens=False)
        assert b"".join(map(vocabulary.token_bytes, token_ids)) == text.encode()


def test_every_byte_has_its_character_in_the_byte_level_alphabet() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    vocabulary = vocabulary_of(tokenizer)
    assert {vocabulary.token_bytes(i) for i in range(256)} == {bytes([byte]) for byte in range(256)}


def test_sentencepiece_tokens_know_spaces_and_byte_fallback() -> None:
    tokenizer = build_sentencepiece_tokenizer()
    vocabulary = vocabulary_of(tokenizer)
    expected = {"▁the": b" the", "<0x0A>": b"\n", "<0xE4>": b"\xe4", "炉": "炉".encode(), "▁▁": b"  "}
    assert {token: vocabulary.token_bytes(tokenizer.token_to_id(token)) for token in expected} == expected
    assert vocabulary.num_stripped_spaces == 1


@pytest.mark.parametrize("prepend_scheme", ["always", "first", "never"])
def test_metaspace_means_a_space(prepend_scheme: str) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"▁a": 0}, merges=[]))
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    vocabulary = vocabulary_of(tokenizer)
    assert vocabulary.token_bytes(0) == b" a"
    assert vocabulary.num_stripped_spaces == (0 if prepend_scheme == "never" else 1)


def test_special_tokens_have_bytes_but_add_no_text() -> None:
    tokenizer = build_byte_level_tokenizer()
    vocabulary = vocabulary_of(tokenizer)
    end, added = tokenizer.token_to_id(END_TOKEN), tokenizer.token_to_id(PLAIN_ADDED_TOKEN)
    assert (vocabulary.token_bytes(end), vocabulary.text_bytes(end)) == (END_TOKEN.encode(), b"")
    assert vocabulary.text_bytes(added) == PLAIN_ADDED_TOKEN.encode()


def test_ids_without_a_token_stand_for_nothing() -> None:
    vocabulary = vocabulary_of(build_byte_level_tokenizer())
    assert vocabulary.token_bytes(10**6) == vocabulary.text_bytes(10**6) == b""


def test_settings_left_from_training_do_not_change_prompts() -> None:
    tokenizer = build_byte_level_tokenizer()
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(length=50)
    assert len(vocabulary_of(tokenizer).encode("x" * 20, add_special_tokens=False)) == 20


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        decoders.WordPiece(),
        decoders.Sequence([decoders.Replace(Regex("x+"), " ")]),
        decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)]),
    ],
)
def test_a_decoder_that_is_not_understood_is_refused(decoder: Any) -> None:
    tokenizer = build_byte_level_tokenizer()
    file = json.loads(tokenizer.to_str())
    file["decoder"] = decoder and json.loads(decoder.__getstate__())
    with pytest.raises(LoadRefused, match="decoder is not supported"):
        Vocabulary(json.dumps(file).encode())


@pytest.mark.parametrize("file", [b"", b"[]", b'{"decoder": {"type": "ByteLevel"}}', b"\xff"])
def test_a_broken_tokenizer_is_refused(file: bytes) -> None:
    with pytest.raises(LoadRefused, match=r"tokenizer\.json"):
        Vocabulary(file)


def test_special_tokens_add_nothing_unless_they_are_shown() -> None:
    vocabulary = vocabulary_of(build_byte_level_tokenizer())
    end = vocabulary.special_token_id(END_TOKEN)
    assert end is not None
    assert vocabulary.text_bytes(end) == b""
    assert vocabulary.text_bytes(end, {end}) == END_TOKEN.encode()
    assert vocabulary.special_token_id(PLAIN_ADDED_TOKEN) is None
    assert END_TOKEN in vocabulary.special_tokens
    assert PLAIN_ADDED_TOKEN not in vocabulary.special_tokens


def test_the_whole_text_holds_special_tokens() -> None:
    vocabulary = vocabulary_of(build_byte_level_tokenizer())
    text = f"the {END_TOKEN}炉火"
    assert vocabulary.whole_text(vocabulary.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("build", [build_byte_level_tokenizer, build_sentencepiece_tokenizer])
@pytest.mark.parametrize("mark", ["\uf8ff", "\ue001"])
def test_a_mark_breaks_a_special_token_and_leaves_nothing_behind(build: Any, mark: str) -> None:
    vocabulary = vocabulary_of(build())
    for name in (END_TOKEN, "</s>"):
        marked = f"the {name[0]}{mark}{name[1:]} 炉{mark}"
        token_ids = vocabulary.encode_around(marked, mark)
        assert vocabulary.special_token_id(name) not in token_ids
        shown = b"".join(map(vocabulary.text_bytes, token_ids)).decode()
        assert shown.strip(" ") == f"the {name} 炉"
