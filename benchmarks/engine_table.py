"""The engine benchmark's lines as a table in markdown: `python -m benchmarks.engine_table < LINES`.

A cell is the median of the rounds with the slowest and fastest in brackets, where there were several.
"""

import json
import sys
from collections.abc import Iterable
from typing import Any


def main() -> None:
    print("\n".join(table(json.loads(line) for line in sys.stdin if line.startswith("{"))))


def table(results: Iterable[dict[str, Any]]) -> list[str]:
    compared, shares, notes = [], [], []
    conditions: dict[str, Any] = {}
    for each in results:
        conditions = each.get("conditions", conditions)
        if each["row"] == "machine":
            notes += [f"{name} {cell(limit)} {limit['unit']}" for name, limit in each["limits"].items()]
        elif "share" in each:
            ceiling = each["sides"]["packed products alone"]
            shares.append(f"{each['row']}: {each['share']} of {cell(ceiling)} tok/s")
        elif "sides" in each:
            compared.append(each)
    sides = list(dict.fromkeys(side for each in compared for side in each["sides"]))
    lines = ["| row | " + " | ".join(sides) + " |", "|---|" + "---|" * len(sides)]
    for each in compared:
        cells = [cell(each["sides"][side]) if side in each["sides"] else "" for side in sides]
        lines.append(f"| {each['row']}, {each['unit']} | " + " | ".join(cells) + " |")
    said = [f"{name}: {value}" for name, value in conditions.items()]
    return [*lines, "", *(f"- {line}" for line in [*notes, *shares, *said])]


def cell(spread: dict[str, Any]) -> str:
    middle = f"{spread['median']:.4g}"
    return middle if spread["rounds"] == 1 else f"{middle} ({spread['min']:.4g}-{spread['max']:.4g})"


if __name__ == "__main__":
    main()
