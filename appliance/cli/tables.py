"""Rows as lines no wider than a terminal. Pure: knows how many cells a text takes, and no terminal.

The first column is never cut, since it is what the next command needs: an id that leaves the others no room takes a
line of its own. The others end in an ellipsis where they must.
"""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

GAP = 2
COMFORTABLE, NARROWEST = 12, 4
"""Cells that a column is left with while others have more; and at all."""
FIRST_COLUMN_LEAST = 12
"""Before a long id takes a line of its own."""


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The headings' line first. Without a width every text is whole."""
    cells = [[" ".join(text.splitlines()).replace("\t", " ") for text in row] for row in (headings, *rows)]
    lengths = [[cell_len(text) for text in column] for column in zip(*cells, strict=True)]
    natural = [max(column) for column in lengths]
    widths = natural if width is None else fit(natural, width)
    if width is not None and widths[0] < natural[0]:
        beside = max(length for length in lengths[0] if length <= widths[0])
        widths = fit([beside, *natural[1:]], width)
    return [line for row in cells for line in _row_lines(row, widths)]


def fit(natural: Sequence[int], width: int) -> list[int]:
    """Widths that fit, the gaps between them included, as far as the narrowest do."""
    widths = list(natural)
    room = width - GAP * (len(widths) - 1)
    first_least = min(natural[0], max(FIRST_COLUMN_LEAST, width // 3))
    for columns, least in (
        (range(1, len(widths)), COMFORTABLE),
        (range(1), first_least),
        (range(1, len(widths)), NARROWEST),
    ):
        _shrink(widths, columns, least, sum(widths) - room)
    return widths


def _shrink(widths: list[int], columns: Sequence[int], least: int, too_much: int) -> None:
    """Take `too_much` from the widest of the columns, cell by cell, leaving each its least."""
    while too_much > 0:
        widest = max(columns, key=lambda column: widths[column], default=0)
        if widest not in columns or widths[widest] <= least:
            return
        widths[widest] -= 1
        too_much -= 1


def _row_lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    rest = [_cut(text, width) for text, width in zip(row[1:], widths[1:], strict=True)]
    if cell_len(row[0]) <= widths[0]:
        return [_line([row[0], *rest], widths)]
    return [row[0], _line(["", *rest], widths)]


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    padded = (text + " " * (width - cell_len(text)) for text, width in zip(texts, widths, strict=True))
    return (" " * GAP).join(padded).rstrip()


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"
