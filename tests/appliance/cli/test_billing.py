import csv
from pathlib import Path
from typing import Any

from appliance.api.control.billing_metrics import COLUMNS
from appliance.cli.billing import columns_of
from appliance.sdk.billing import DailyUsage
from tests.appliance.cli.conftest import Hearth

EMBER = "accounts/fireworks/models/ember-chat"


def test_what_was_used_is_shown_day_by_day(hearth: Hearth) -> None:
    assert hearth("chat", EMBER, "--once", "Hello").exit_code == 0
    table = hearth("billing", "get-usage", "--usage-type", "serverless", "--group-by", "model_name")
    assert table.exit_code == 0, table.err
    heading, *rows = [line.split() for line in table.out.splitlines()]
    assert heading == ["DAY", "WHAT", "BY", "REQUESTS", "PROMPT", "CACHED", "COMPLETION", "DEVICE", "SECONDS"]
    assert rows[0][1:3] == ["shared", "ember-chat"]
    assert int(rows[0][3]) >= 1
    usage: Any = hearth("billing", "get-usage", "-o", "json").json
    assert int(usage["serverlessCosts"][0]["promptTokens"]) > 0


def test_it_is_written_into_a_file(hearth: Hearth, tmp_path: Path) -> None:
    assert hearth("chat", EMBER, "--once", "Hello").exit_code == 0
    file = tmp_path / "metrics.csv"
    written = hearth("export", "billing", "metrics", "--filename", str(file))
    assert written.exit_code == 0, written.err
    columns, *rows = list(csv.reader(file.read_text().splitlines()))
    assert tuple(columns) == COLUMNS
    assert written.out == f"Wrote {len(rows)} lines to {file}\n"
    assert any(EMBER in row for row in rows)


def test_a_window_is_no_longer_than_a_month(hearth: Hearth) -> None:
    refused = hearth("billing", "get-usage", "--start-time", "2026-01-01", "--end-time", "2026-03-01")
    assert (refused.exit_code, "31 days" in refused.err) == (1, True)
    assert hearth("billing", "get-usage", "--start-time", "yesterday").exit_code == 2


def test_sound_and_pictures_have_columns_where_somebody_used_them() -> None:
    assert not {"AUDIO SECONDS", "IMAGES"} & set(columns_of([DailyUsage()]))
    columns = columns_of([DailyUsage(), DailyUsage(audio_input_seconds=1.5), DailyUsage(image_count="2")])
    assert [name for name in columns if name in ("AUDIO SECONDS", "IMAGES")] == ["AUDIO SECONDS", "IMAGES"]
