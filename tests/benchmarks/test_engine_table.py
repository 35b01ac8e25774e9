"""The engine benchmark's lines as a table."""

from benchmarks.engine_rows import DECODE, PEAK_RSS, ceiling_result, machine_result, result
from benchmarks.engine_table import table


def test_a_side_without_a_figure_has_an_empty_cell() -> None:
    lines = table(
        [
            machine_result([{"read_gb_per_s": 20.0, "matmul_tflops": 1.0}]),
            result(DECODE[1], {"ours": [15, 16, 14], "llama.cpp": [11.0]}, has_amx=True),
            ceiling_result(1, [15.0], [20.0]),
            result(PEAK_RSS, {"ours": [1.234]}, has_amx=True) | {"conditions": {"cores": 2}},
        ]
    )

    assert lines == [
        "| row | ours | llama.cpp |",
        "|---|---|---|",
        "| decode_1, tok/s | 15 (14-16) | 11 |",
        "| peak_rss, GB | 1.234 |  |",
        "",
        "- read_gb_per_s 20 GB/s",
        "- matmul_tflops 1 TFLOP/s in bfloat16",
        "- decode_1_over_ceiling: 0.75 of 20 tok/s",
        "- cores: 2",
    ]
