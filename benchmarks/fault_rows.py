"""What a fault of `benchmarks/faults.py` is made of."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Figures = dict[str, object]


class Fault(NamedTuple):
    number: str
    """As in the plan of faults: F1, F2 …"""
    what: str
    num_times: int
    invariants: str
    run: Callable[[Path, random.Random, int], Figures]
    """Does it so often in an empty directory; raises when a promise is broken."""
    engine: str = "scripted"


def in_ms(seconds: list[float]) -> Figures:
    ordered = sorted(seconds)
    return {"ms_median": round(1000 * ordered[len(ordered) // 2]), "ms_max": round(1000 * ordered[-1])}
