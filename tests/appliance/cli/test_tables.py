import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli.tables import NARROWEST, table_lines

HEADINGS = ["ID", "MODEL", "STATE", "CREATED"]
LONG = "a" * 63
ROWS = [
    [LONG, "accounts/fireworks/models/" + "m" * 40, "READY", "2026-11-21 02:38:25 UTC"],
    ["b", "日本語のモデル🔥" * 4, "CREATING", ""],
]


def cells(text: str) -> int:
    """As a terminal counts them, of text without joined emoji."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_table_is_no_wider_than_the_terminal_and_no_id_is_cut(width: int) -> None:
    lines = table_lines(HEADINGS, ROWS, width)
    assert all(cells(line) <= width or line == LONG for line in lines)
    assert any(line.split()[0] == LONG for line in lines)
    assert lines[0].split() == HEADINGS


def test_a_long_id_takes_a_line_of_its_own_and_leaves_the_others_their_room() -> None:
    lines = table_lines(HEADINGS, ROWS, 80)
    assert lines[1] == LONG
    assert lines[2].split()[1:2] == ["READY"]
    assert lines[3].startswith("b   日本語の")


def test_what_fits_is_not_touched() -> None:
    assert table_lines(["ID", "STATE"], [["a", "READY"], ["bc", ""]], 80) == ["ID  STATE", "a   READY", "bc"]


def test_without_a_width_every_line_is_whole() -> None:
    lines = table_lines(HEADINGS, ROWS, None)
    assert len(lines) == 3
    assert all(text in lines[1] for text in ROWS[0])


def test_a_text_of_several_lines_is_one() -> None:
    assert table_lines(["ID", "NOTE"], [["a", "one\ntwo\tthree"]], None)[1] == "a   one two three"


texts = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="\u200d"), max_size=70)


@given(st.lists(st.lists(texts, min_size=5, max_size=5), max_size=6), st.integers(60, 200))
def test_any_texts_fit_any_terminal(rows: list[list[str]], width: int) -> None:
    rows = [["id" + "x" * len(row[0]), *row[1:]] for row in rows]
    lines = table_lines(["ID", "A", "B", "C", "D"], rows, width)
    ids = {row[0] for row in rows}
    assert all(cells_by_library(line) <= width or line in ids for line in lines)
    assert ids <= {line.split(" ")[0] for line in lines}


def cells_by_library(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def test_columns_keep_something_of_what_they_hold() -> None:
    (_, line) = table_lines([*"ABCDEFGHI"], [["id", *("value" * 9 for _ in range(8))]], 60)
    assert all(len(text) >= NARROWEST for text in line.split()[1:])
