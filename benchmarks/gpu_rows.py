"""Rows of the GPU benchmark: what one says, what a part is made of, and how all of them become one table.

Pure: knows neither torch nor any device, so that the process that starts the others stays small.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

LESS_IS_BETTER = {"s", "ms", "us"}
Status = Literal["measured", "passed", "failed", "unavailable", "skipped"]


class Unavailable(Exception):
    """A row that this machine, or this build of the engine, cannot have; the text says what it would need."""


NEEDS_CUDA = "needs CUDA"


class Figure(NamedTuple):
    """What a row measured."""

    value: float
    unit: str
    roofline: float | None = None
    """The same quantity, as the device's own limits have it."""
    is_passed: bool | None = None
    """Of a check; None for everything that is only measured."""
    conditions: dict[str, Any] = {}


class Row(msgspec.Struct, frozen=True, kw_only=True, tag="row"):
    part: str
    name: str
    status: Status
    value: float | None = None
    unit: str = ""
    roofline: float | None = None
    reason: str = ""
    """Why there is no value."""
    conditions: dict[str, Any] = {}

    @property
    def of_roofline(self) -> float | None:
        """1 is what the device could do at best; the same for speeds and for durations."""
        if not self.value or not self.roofline:
            return None
        return self.roofline / self.value if self.unit in LESS_IS_BETTER else self.value / self.roofline


def measured(part: str, name: str, figure: Figure) -> Row:
    status: Status = "measured"
    if figure.is_passed is not None:
        status = "passed" if figure.is_passed else "failed"
    return Row(
        part=part,
        name=name,
        status=status,
        value=figure.value,
        unit=figure.unit,
        roofline=figure.roofline,
        reason="the error exceeds the tolerance" if status == "failed" else "",
        conditions=figure.conditions,
    )


class RowSpec(NamedTuple):
    """A row to come. Naming rows costs nothing: whatever a measurement needs it makes when it is called."""

    name: str
    measure: Callable[[], Figure]
    needs_cuda: bool = False


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="begun"):
    """A process has begun a part, or goes on with it."""

    part: str
    rows: list[str]
    """All of the part, those too that an earlier process has done."""


class RowBegun(msgspec.Struct, frozen=True, kw_only=True, tag="row_begun"):
    name: str


class Machine(msgspec.Struct, frozen=True, kw_only=True, tag="machine"):
    """What every row was measured on."""

    conditions: dict[str, Any]


Message = Begun | RowBegun | Machine | Row
MESSAGES: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def as_json(row: Row, machine: dict[str, Any]) -> str:
    """One line; numbers are as precise as they mean something."""
    ratio = row.of_roofline
    line = {
        "benchmark": "gpu",
        "part": row.part,
        "row": row.name,
        "status": row.status,
        **({} if row.value is None else {"value": _rounded(row.value), "unit": row.unit}),
        **({} if row.roofline is None else {"roofline": _rounded(row.roofline)}),
        **({} if ratio is None else {"of_roofline": round(ratio, 3)}),
        **({"reason": row.reason} if row.reason else {}),
        "conditions": row.conditions | machine,
    }
    return msgspec.json.encode(line).decode()


def as_table(rows: Sequence[Row]) -> str:
    header = ("part", "row", "value", "unit", "roofline", "of it", "status", "conditions")
    lines = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]]).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    ratio = row.of_roofline
    said = " ".join(f"{name}={value}" for name, value in row.conditions.items())
    return (
        row.part,
        row.name,
        "-" if row.value is None else f"{_rounded(row.value):g}",
        row.unit,
        "-" if row.roofline is None else f"{_rounded(row.roofline):g}",
        "-" if ratio is None else f"{ratio:.2f}",
        row.status,
        f"{row.reason} {said}".strip(),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
