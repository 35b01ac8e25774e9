import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.llm.detokenizer import Detokenizer
from runtime.llm.vocabulary import Vocabulary
from tests.fakes.tiny_tokenizers import PLAIN_ADDED_TOKEN, build_byte_level_tokenizer, build_sentencepiece_tokenizer

REPLACEMENT = "�"
TOKENIZERS = {"byte level": build_byte_level_tokenizer(), "sentencepiece": build_sentencepiece_tokenizer()}
VOCABULARIES = {family: Vocabulary(tokenizer.to_str().encode()) for family, tokenizer in TOKENIZERS.items()}

families = st.sampled_from(sorted(TOKENIZERS))
texts = st.text(st.sampled_from("the r\n炉火🔥üé👩‍🚒пр.") | st.characters(exclude_categories=["Cs"]), max_size=30)
short_texts = st.text(st.sampled_from("abc 炉🔥"), max_size=12)


def detokenise(detokenizer: Detokenizer, token_ids: list[int]) -> list[str]:
    """The piece that each token gives, and last what was held back; no token after a stop string."""
    pieces = []
    for token_id in token_ids:
        pieces.append(detokenizer.add(token_id))
        if detokenizer.is_stopped:
            return pieces
    return [*pieces, detokenizer.finish()]


def single_byte_ids(text: str) -> list[int]:
    """The text as byte-level tokens of one byte each."""
    vocabulary = VOCABULARIES["byte level"]
    by_bytes = {vocabulary.text_bytes(token_id): token_id for token_id in range(300)}
    return [by_bytes[bytes([byte])] for byte in text.encode()]


def stopped_text(text: str, stop: list[str]) -> str:
    """What remains when characters come one by one and the text ends with the first complete stop string."""
    for end in range(len(text) + 1):
        starts = [end - len(one) for one in stop if text[:end].endswith(one)]
        if starts:
            return text[: min(starts)]
    return text


@given(families, texts, st.integers(0, 30))
def test_an_echoed_prompt_and_its_continuation_are_one_text(family: str, text: str, num_echoed: int) -> None:
    token_ids = TOKENIZERS[family].encode(text, add_special_tokens=False).ids
    detokenizer = Detokenizer(VOCABULARIES[family], [], starts_text=True)
    echo = detokenizer.echo(token_ids[:num_echoed])
    assert echo + "".join(detokenise(detokenizer, token_ids[num_echoed:])) == text


def test_no_stop_string_is_looked_for_in_an_echo() -> None:
    detokenizer = Detokenizer(VOCABULARIES["byte level"], ["ab"], starts_text=True)
    assert detokenizer.echo(single_byte_ids("xaba")) == "xaba"
    assert detokenise(detokenizer, single_byte_ids("bab")) == ["b", "", ""]
    assert detokenizer.is_stopped


@given(families, texts)
def test_pieces_add_up_to_the_text(family: str, text: str) -> None:
    token_ids = TOKENIZERS[family].encode(text, add_special_tokens=False).ids
    pieces = detokenise(Detokenizer(VOCABULARIES[family], [], starts_text=True), token_ids)
    assert "".join(pieces) == TOKENIZERS[family].decode(token_ids) == text


@given(texts.filter(lambda text: REPLACEMENT not in text))
def test_no_piece_holds_half_a_character(text: str) -> None:
    pieces = detokenise(Detokenizer(VOCABULARIES["byte level"], [], starts_text=True), single_byte_ids(text))
    assert "".join(pieces) == text
    assert [piece for piece in pieces if piece] == list(text)


@given(st.lists(st.integers(0, 345), max_size=20))
def test_any_byte_level_tokens_give_what_decoding_the_whole_gives(token_ids: list[int]) -> None:
    text = "".join(detokenise(Detokenizer(VOCABULARIES["byte level"], [], starts_text=True), token_ids))
    whole = TOKENIZERS["byte level"].decode(token_ids)
    # An unfinished last character is dropped instead of shown as U+FFFD.
    assert text in (whole, whole.removesuffix(REPLACEMENT))


@given(st.lists(st.integers(0, 290), max_size=12))
def test_any_sentencepiece_tokens_give_what_decoding_the_whole_gives(token_ids: list[int]) -> None:
    text = "".join(detokenise(Detokenizer(VOCABULARIES["sentencepiece"], [], starts_text=True), token_ids))
    whole = TOKENIZERS["sentencepiece"].decode(token_ids)
    # The library gives up a whole run of byte tokens when one of them is wrong; here the right ones are kept.
    if REPLACEMENT not in whole:
        assert text == whole


def test_a_continuation_keeps_the_space_that_a_text_of_its_own_loses() -> None:
    tokenizer, vocabulary = TOKENIZERS["sentencepiece"], VOCABULARIES["sentencepiece"]
    token_ids = [tokenizer.token_to_id("▁the")]
    assert detokenise(Detokenizer(vocabulary, [], starts_text=True), token_ids) == ["the", ""]
    assert detokenise(Detokenizer(vocabulary, [], starts_text=False), token_ids) == [" the", ""]


def test_the_tokenizers_space_is_stripped_once_however_it_is_cut() -> None:
    tokenizer, vocabulary = TOKENIZERS["sentencepiece"], VOCABULARIES["sentencepiece"]
    token_ids = [tokenizer.token_to_id(token) for token in ("<s>", "▁", "▁", "▁the")]
    assert "".join(detokenise(Detokenizer(vocabulary, [], starts_text=True), token_ids)) == "  the"
    assert tokenizer.decode(token_ids) == "  the"


@given(short_texts, st.lists(st.text(st.sampled_from("abc 炉🔥"), min_size=1, max_size=4), max_size=4), st.randoms())
def test_stop_strings_end_the_text_however_it_is_cut(text: str, stop: list[str], source: random.Random) -> None:
    expected = stopped_text(text, stop)
    for family, tokenizer in TOKENIZERS.items():
        cuts = sorted(source.sample(range(len(text) + 1), source.randint(0, len(text))))
        parts = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        token_ids = _encode_parts(tokenizer, parts)
        detokenizer = Detokenizer(VOCABULARIES[family], stop, starts_text=True)
        assert "".join(detokenise(detokenizer, token_ids)) == expected
        assert detokenizer.is_stopped == (expected != text)


def _encode_parts(tokenizer: Any, parts: list[str]) -> list[int]:
    """Tokens of the parts side by side. A SentencePiece tokenizer would put a space before each: there, spell them."""
    if tokenizer.normalizer is None:
        return [token_id for part in parts for token_id in tokenizer.encode(part, add_special_tokens=False).ids]
    token_ids = [tokenizer.token_to_id("▁")]
    for character in "".join(parts):
        piece = tokenizer.token_to_id("▁" if character == " " else character)
        fallback = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in character.encode()]
        token_ids += fallback if piece is None else [piece]
    return token_ids


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    detokenizer = Detokenizer(VOCABULARIES["byte level"], ["</end>", "\n\n"], starts_text=True)
    text = "a < b</e\n</end>!"
    assert detokenise(detokenizer, single_byte_ids(text)) == [
        *("a", " ", "", "< ", "b", "", "", ""),
        *("</e", "\n", "", "", "", "", ""),
    ]
    assert detokenizer.is_stopped


def test_a_stop_string_that_never_came_is_given_back_at_the_end() -> None:
    detokenizer = Detokenizer(VOCABULARIES["byte level"], ["end of text"], starts_text=True)
    assert "".join(detokenise(detokenizer, single_byte_ids("the end of"))) == "the end of"
    assert not detokenizer.is_stopped


@pytest.mark.parametrize(("stop", "expected"), [(["bc", "abcd"], "xa"), (["abc", "bc"], "x"), (["c"], "xab")])
def test_the_stop_string_complete_first_wins_and_then_the_longest(stop: list[str], expected: str) -> None:
    assert stopped_text("xabcd", stop) == expected
    detokenizer = Detokenizer(VOCABULARIES["byte level"], stop, starts_text=True)
    assert "".join(detokenise(detokenizer, single_byte_ids("xabcd"))) == expected


def test_the_same_stop_string_wins_when_one_token_completes_several() -> None:
    token_id = TOKENIZERS["byte level"].token_to_id(PLAIN_ADDED_TOKEN)
    assert PLAIN_ADDED_TOKEN == "<call me>"
    for stop in (["all", "call me"], ["call me", "all"]):
        detokenizer = Detokenizer(VOCABULARIES["byte level"], stop, starts_text=True)
        assert detokenizer.add(token_id) == stopped_text(PLAIN_ADDED_TOKEN, stop) == "<c"
        assert detokenizer.is_stopped


def test_special_tokens_are_text_where_they_are_shown() -> None:
    vocabulary = VOCABULARIES["byte level"]
    end = vocabulary.token_id("<|end|>")
    assert end is not None
    hidden = Detokenizer(vocabulary, [], starts_text=True)
    shown = Detokenizer(vocabulary, ["|>x"], starts_text=True, shown={end})
    assert (hidden.add(end), shown.add(end), shown.finish()) == ("", "<|end", "|>")


@given(text=texts)
def test_characters_are_counted_whether_held_back_or_not(text: str) -> None:
    detokenizer = Detokenizer(VOCABULARIES["byte level"], ["never to be found"], starts_text=True)
    said = "".join(detokenise(detokenizer, single_byte_ids(text)))
    assert detokenizer.num_characters == len(said)
