import json

from benchmarks.gpu_rows import Figure, Row, as_json, as_table, measured


def test_a_ratio_of_one_is_the_roofline_for_speeds_and_for_durations() -> None:
    assert measured("p", "r", Figure(3.0, "GB/s", 4.0)).of_roofline == 0.75
    assert measured("p", "r", Figure(4.0, "ms", 3.0)).of_roofline == 0.75
    assert measured("p", "r", Figure(4.0, "ms")).of_roofline is None


def test_a_check_passes_or_fails() -> None:
    assert measured("p", "r", Figure(0.0, "error", is_passed=True)).status == "passed"
    failed = measured("p", "r", Figure(1.0, "error", is_passed=False))
    assert failed.status == "failed"
    assert failed.reason


def test_a_line_holds_the_conditions_of_row_and_machine() -> None:
    row = measured("p", "r", Figure(123456.789, "tok/s", 200000.0, conditions={"context": 5}))
    line = json.loads(as_json(row, {"device": "a GPU"}))
    assert line["value"] == 123500
    assert line["of_roofline"] == 0.617
    assert line["conditions"] == {"context": 5, "device": "a GPU"}


def test_the_table_says_why_a_row_has_no_value() -> None:
    rows = [measured("p", "r", Figure(2.0, "ms", 1.0)), Row(part="p", name="s", status="skipped", reason="no time")]
    header, first, second = as_table(rows).splitlines()
    assert header.split()[:3] == ["part", "row", "value"]
    assert first.split() == ["p", "r", "2", "ms", "1", "0.50", "measured"]
    assert second.endswith("no time")
