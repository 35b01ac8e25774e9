"""Thoughts and text, however the text is cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.reasoning_parsers.parser import ReasoningParser, Thought, ThoughtMarkers

MARKERS = ThoughtMarkers("<think>", "</think>")
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(["<think>", "</think>", "<thi", "nk>", "\n\n", " ", "so", "<", "🔥"]), st.text(max_size=4)
    ),
    max_size=10,
).map("".join)


def read(*pieces: str, is_thinking: bool = False) -> tuple[str, str, int]:
    """Thought, text, and the length of the thought."""
    parser = ReasoningParser(MARKERS, is_thinking=is_thinking)
    found = [piece for text in pieces for piece in parser.feed(text)]
    found += parser.finish()
    thought = "".join(piece.text for piece in found if isinstance(piece, Thought))
    said = "".join(piece.text for piece in found if not isinstance(piece, Thought))
    return thought, said, parser.num_thought_characters


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, cut=st.integers(0, 60), is_thinking=st.booleans())
def test_where_the_text_is_cut_does_not_matter(text: str, cut: int, is_thinking: bool) -> None:
    whole = read(text, is_thinking=is_thinking)
    assert read(*text, is_thinking=is_thinking) == whole
    assert read(text[:cut], text[cut:], is_thinking=is_thinking) == whole


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_only_markers_and_the_space_around_them_are_lost(text: str) -> None:
    thought, said, _ = read(text)
    if not text.lstrip().startswith("<think>"):
        assert (thought, said) == ("", text)
    else:
        rest = text.lstrip().removeprefix("<think>")
        before, _, after = rest.partition("</think>")
        assert (thought.strip(), said.strip()) == (before.strip(), after.strip())


@pytest.mark.parametrize(
    ("text", "is_thinking", "expected"),
    [
        ("<think>\nHm.\n\nYes.\n</think>\n\nIt is.", False, ("Hm.\n\nYes.", "It is.", 26)),
        ("Hm.\n</think>It is.", True, ("Hm.", "It is.", 12)),
        ("\n\n</think>\n\nIt is.", True, ("", "It is.", 10)),
        ("Hm", True, ("Hm", "", 0)),
        ("It is. <think>no</think>", False, ("", "It is. <think>no</think>", 0)),
        ("<think>a</think>b<think>c</think>", False, ("a", "b<think>c</think>", 16)),
        ("  <thin ice", False, ("", "  <thin ice", 0)),
        ("", True, ("", "", 0)),
    ],
)
def test_thoughts_are_told_from_text(text: str, is_thinking: bool, expected: tuple[str, str, int]) -> None:
    assert read(text, is_thinking=is_thinking) == expected


def test_thoughts_stream() -> None:
    parser = ReasoningParser(MARKERS, is_thinking=True)
    assert parser.feed("Hm") == [Thought("Hm")]
    assert parser.is_thinking
    assert parser.feed(", so</th") == [Thought(", so")]
    parser.feed("ink>")
    assert not parser.is_thinking


def test_endless_space_is_text() -> None:
    space = " " * 200_000
    assert read(space) == ("", space, 0)
