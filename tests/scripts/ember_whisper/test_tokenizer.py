"""Every word is one token, special ones are where faster-whisper looks for them, and any text comes back unchanged."""

from faster_whisper.tokenizer import Tokenizer
from hypothesis import given
from hypothesis import strategies as st

from scripts.ember_whisper.phrases import VOCABULARY
from scripts.ember_whisper.tokenizer import NUM_TIMESTAMPS, train_tokenizer

vocabulary = train_tokenizer()


def test_every_word_is_one_token() -> None:
    assert len(set(vocabulary.words.values())) == len(VOCABULARY)
    assert max(vocabulary.words.values()) < vocabulary.end


def test_faster_whisper_finds_the_special_tokens() -> None:
    theirs = Tokenizer(vocabulary.tokenizer, multilingual=False)
    assert (theirs.eot, theirs.sot, theirs.sot_prev) == (vocabulary.end, vocabulary.start, vocabulary.previous)
    assert (theirs.no_speech, theirs.no_timestamps) == (vocabulary.no_speech, vocabulary.no_timestamps)
    assert vocabulary.timestamp(0) == theirs.timestamp_begin
    assert vocabulary.timestamp(30) == vocabulary.timestamp(99) == vocabulary.size - 1
    assert vocabulary.timestamp(1.0) - theirs.timestamp_begin == 50
    assert vocabulary.size == theirs.timestamp_begin + NUM_TIMESTAMPS


@given(st.text().filter(lambda text: "<|" not in text))
def test_any_text_comes_back_unchanged(text: str) -> None:
    tokenizer = vocabulary.tokenizer
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text
