"""What two hearings agree on stays; what one hearing says may go."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.tasks.speech import Word
from runtime.whisper.confirmation import Confirmation, is_same, num_matching

FAR = 1000.0


def heard(text: str, start: float = 0.0, step: float = 0.5) -> list[Word]:
    return [
        Word(word=f" {word}", start=start + step * index, end=start + step * (index + 1), probability=0.9)
        for index, word in enumerate(text.split())
    ]


def text_of(words: list[Word]) -> str:
    return "".join(word.word for word in words).strip()


def test_what_is_heard_once_is_tentative() -> None:
    speech = Confirmation()
    assert speech.hear(heard("turn on the"), FAR) == []
    assert text_of(speech.tentative) == "turn on the"
    assert not any(word.is_final for word in speech.words)


def test_what_is_heard_twice_is_confirmed_up_to_the_first_difference() -> None:
    speech = Confirmation()
    speech.hear(heard("turn on the lie"), FAR)
    assert text_of(speech.hear(heard("turn on the light in"), FAR)) == "turn on the"
    assert text_of(speech.tentative) == "light in"
    assert [word.is_final for word in speech.words] == [True, True, True, False, False]


def test_a_confirmed_word_stays_whatever_is_heard_later() -> None:
    speech = Confirmation()
    for text in ("one two", "one two", "nine two three", "nine two three"):
        speech.hear(heard(text), FAR)
    assert text_of(speech.confirmed) == "one two three"


def test_words_that_later_hearings_leave_out_or_add_do_not_shift_the_rest() -> None:
    speech = Confirmation()
    for text in ("one two three", "one two three", "two three four", "well one two three four"):
        speech.hear(heard(text), FAR)
    assert text_of(speech.confirmed) == "one two three four"


def test_a_repeated_word_is_as_often_there_as_it_was_said() -> None:
    speech = Confirmation()
    for count in (1, 2, 2, 3, 3, 4):
        speech.hear(heard("no " * count), FAR)
    assert text_of(speech.words) == "no no no no"
    assert len(speech.confirmed) == 3


def test_case_and_punctuation_are_no_difference() -> None:
    speech = Confirmation()
    speech.hear(heard("Hello, world"), FAR)
    assert text_of(speech.hear(heard("hello World."), FAR)) == "hello World."
    assert is_same(" It's", "its!")
    assert not is_same("one", "two")
    assert not is_same("...", "?")


def test_a_word_at_the_very_end_of_the_sound_waits() -> None:
    speech = Confirmation()
    speech.hear(heard("one two"), 1.05)
    assert text_of(speech.hear(heard("one two"), 1.05)) == "one"


def test_the_last_hearing_confirms_all_of_it() -> None:
    speech = Confirmation()
    speech.hear(heard("one too"), FAR)
    assert text_of(speech.end(heard("one two three"))) == "one two three"
    assert not speech.tentative


def test_an_end_without_a_hearing_takes_what_began_before() -> None:
    speech = Confirmation()
    speech.hear(heard("one two three"), FAR)
    speech.end_at(0.9)
    assert text_of(speech.words) == "one two"


def test_words_come_in_the_order_of_time() -> None:
    speech = Confirmation()
    speech.hear(heard("one two"), FAR)
    speech.hear(heard("one two"), FAR)
    speech.hear([*heard("one two", start=-0.3), *heard("three", start=0.2)], FAR)
    starts = [word.start for word in speech.words]
    assert starts == sorted(starts)
    assert all(before.end <= word.start for before, word in zip(speech.words, speech.words[1:], strict=False))


def test_a_split_divides_the_confirmed_words() -> None:
    speech = Confirmation()
    speech.hear(heard("one two three"), FAR)
    speech.hear(heard("one two tree"), FAR)
    before, behind = speech.split(1)
    assert text_of(before.words) == "one"
    assert (text_of(behind.confirmed), text_of(behind.tentative)) == ("two", "tree")


def test_of_two_ways_to_align_the_one_that_fits_in_time_is_taken() -> None:
    known = heard("stop")
    assert num_matching(known, [*heard("go"), *heard("go", start=5.0)]) in (0, 1)
    assert num_matching(known, heard("stop stop")) == 1


hearings = st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), max_size=8)


@given(hearings)
def test_confirmed_words_only_ever_grow(texts: list[str]) -> None:
    speech = Confirmation()
    before: list[Word] = []
    for text in texts:
        new = speech.hear(heard(text), FAR)
        assert speech.confirmed == before + new
        assert all(word.is_final for word in speech.confirmed)
        before = speech.confirmed
