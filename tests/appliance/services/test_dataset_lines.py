from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.services.dataset_lines import Line, read_lines


def lines(path: Path, content: bytes, line_bytes_max: int = 100) -> list[Line]:
    path.write_bytes(content)
    return list(read_lines(path, line_bytes_max))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"{}", [Line(1, b"{}")]),
        (b"{}\n", [Line(1, b"{}")]),
        (b"{}\r\n[]\r\n", [Line(1, b"{}"), Line(2, b"[]")]),
        (b"\n \t\r\n{}\n\n[]", [Line(3, b"{}"), Line(5, b"[]")]),
        (b"\xef\xbb\xbf{}\n\xef\xbb\xbf{}", [Line(1, b"{}"), Line(2, b"\xef\xbb\xbf{}")]),
        # Neither ends a line: both may stand in a JSON text.
        ("{\u2028}\x85\n".encode(), [Line(1, "{\u2028}\x85".encode())]),
        (b"{}\r[]", [Line(1, b"{}\r[]")]),
    ],
)
def test_lines_are_numbered_as_an_editor_numbers_them(tmp_path: Path, content: bytes, expected: list[Line]) -> None:
    assert lines(tmp_path / "file", content) == expected


def test_a_line_that_is_too_long_is_told_and_the_next_one_is_read(tmp_path: Path) -> None:
    long = b"x" * 5_000_000
    assert lines(tmp_path / "file", b"{}\n" + long + b"\n[]\n" + long) == [
        Line(1, b"{}"),
        Line(2, None),
        Line(3, b"[]"),
        Line(4, None),
    ]
    assert lines(tmp_path / "file", b"y" * 99 + b"\n") == [Line(1, b"y" * 99)]
    assert lines(tmp_path / "file", b"y" * 100 + b"\n") == [Line(1, None)]


@given(content=st.binary(max_size=300), line_bytes_max=st.integers(min_value=1, max_value=50))
def test_any_bytes_are_read_within_the_limit(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, line_bytes_max: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    found = lines(path, content, line_bytes_max)
    assert all(line.content is None or 0 < len(line.content) <= line_bytes_max for line in found)
    numbers = [line.number for line in found]
    assert numbers == sorted(set(numbers))
    assert not numbers or numbers[-1] <= content.count(b"\n") + 1
