"""What the parsers' own tests do not show: holding, taking back, and the bound on it."""

import pytest

from models.text_reader import HELD_CHARACTERS_MAX, Malformed, Reader, Step, Unfinished


def test_what_was_held_can_be_taken_back_over_many_pieces() -> None:
    reader = Reader()
    taken: list[str] = []

    def steps() -> Step[None]:
        taken.append((yield from reader.take()))
        reader.hold()
        for _ in range(4):
            taken.append((yield from reader.take()))

    running = steps()
    for character in "abcde":
        reader.append(character)
        next(running, None)
    assert taken == list("abcde")
    assert (reader.take_back(), reader.take_back(), reader.num_read) == ("bcde", "", 5)


def test_an_end_in_the_middle_is_told_from_a_wrong_character() -> None:
    for text, error in (("fun", Unfinished), ("fur", Malformed)):
        reader = Reader()
        reader.append(text)
        reader.end()
        with pytest.raises(Malformed) as raised:
            next(reader.expect("function"), None)
        assert type(raised.value) is error


def test_no_more_than_so_much_is_held() -> None:
    reader = Reader()
    reader.append(" " * (HELD_CHARACTERS_MAX + 10))
    reader.hold()
    with pytest.raises(Malformed):
        next(reader.skip_space(), None)
