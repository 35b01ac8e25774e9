"""The rows of the engine benchmark: what each asks of a side, what it is to reach, and what the rounds came to."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks.engine_process import EARLIER, LLAMA_CPP, OURS

NEEDS_AMX = "2 cores with AMX"


class Target(NamedTuple):
    """Absolute figures hold on a machine of one kind; ratios hold on any."""

    bound: float
    goal: float
    ahead_of_all_but: tuple[str, ...] = ()


class Row(NamedTuple):
    name: str
    unit: str
    target: Target
    figure: str = ""
    """Of `engine_side.Figures`, where a job gives it."""
    is_less_better: bool = False


class Work(NamedTuple):
    """A job's size, and the rows that it gives."""

    num_requests: int
    num_prompt_tokens: int
    num_new_tokens: int
    rows: tuple[Row, ...]
    has_ceiling: bool = False
    """Whether its decodes are held against the same number of rows through the products alone."""


COLD_START = Row("cold_process_to_first_token", "s", Target(6, 4, (LLAMA_CPP,)), is_less_better=True)
SPARE_START = Row("spare_worker_to_first_token", "s", Target(1.5, 1), is_less_better=True)
PEAK_RSS = Row("peak_rss", "GB", Target(1.5, 1.5), is_less_better=True)
STEP_OVERHEAD = Row("step_overhead_at_32", "ms", Target(3, 3), is_less_better=True)
PREFILL = Row("prefill_512", "tok/s", Target(1200, 1400), "prompt_tokens_per_s")
TTFT = Row("ttft_512", "s", Target(512 / 1200, 512 / 1400), "first_token_s", is_less_better=True)
DECODE = {
    1: Row("decode_1", "tok/s", Target(15, 17), "decode_tokens_per_s"),
    8: Row("decode_8", "tok/s", Target(100, 120), "decode_tokens_per_s"),
    32: Row("decode_32", "tok/s", Target(300, 400), "decode_tokens_per_s"),
}
WORKS = [
    Work(1, 512, 1, (PREFILL, TTFT)),
    Work(1, 128, 64, (DECODE[1],), has_ceiling=True),
    Work(8, 128, 64, (DECODE[8],), has_ceiling=True),
    Work(32, 128, 64, (DECODE[32],), has_ceiling=True),
]
CEILING_SHARE = 0.7
ROW_NAMES = [row.name for row in (COLD_START, SPARE_START, PREFILL, TTFT, *DECODE.values(), PEAK_RSS, STEP_OVERHEAD)]

Values = Mapping[str, Sequence[float]]
"""By side, those of its rounds in their order; a slow side has fewer than others."""


def result(row: Row, values: Values, *, has_amx: bool) -> dict[str, Any]:
    """One line of the report. Each ratio says how many times better ours is, round by round and of the medians."""
    ours = values[OURS]
    rivals = {side: own for side, own in values.items() if side != OURS}
    ratios = {side: _ratio(row, median(ours), median(own)) for side, own in rivals.items()}
    return {
        "row": row.name,
        "unit": row.unit,
        "sides": {side: spread(own) for side, own in values.items()},
        "ours_over": {
            side: {
                "ratio": ratios[side],
                "rounds": [_ratio(row, mine, theirs) for mine, theirs in zip(ours, own, strict=False)],
            }
            for side, own in rivals.items()
        },
        "target": {
            ("at_most" if row.is_less_better else "at_least"): round(row.target.bound, 3),
            "goal": round(row.target.goal, 3),
            "holds_on": NEEDS_AMX,
            "is_met": _is_reached(row, median(ours)) if has_amx else None,
        },
        "is_ahead_of": {
            side: ratio > 1
            for side, ratio in ratios.items()
            if side != EARLIER and side not in row.target.ahead_of_all_but
        },
    }


def ceiling_result(num_rows: int, ours: Sequence[float], ceiling: Sequence[float]) -> dict[str, Any]:
    """How much of what the model's products alone would allow is reached, in pairs of the same round."""
    share = median(ours) / median(ceiling)
    return {
        "row": f"decode_{num_rows}_over_ceiling",
        "unit": "of the packed products' speed",
        "sides": {OURS: spread(ours), "packed products alone": spread(ceiling)},
        "share": round(share, 3),
        "rounds": [round(mine / limit, 3) for mine, limit in zip(ours, ceiling, strict=True)],
        "target": {"at_least": CEILING_SHARE, "holds_on": "any machine", "is_met": share >= CEILING_SHARE},
    }


def machine_result(limits: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    names = {"read_gb_per_s": "GB/s", "matmul_tflops": "TFLOP/s in bfloat16"}
    return {
        "row": "machine",
        "limits": {name: spread([each[name] for each in limits]) | {"unit": unit} for name, unit in names.items()},
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "rounds": len(values),
    }


def _ratio(row: Row, ours: float, theirs: float) -> float:
    return round(theirs / ours if row.is_less_better else ours / theirs, 3)


def _is_reached(row: Row, value: float) -> bool:
    return value <= row.target.bound if row.is_less_better else value >= row.target.bound
