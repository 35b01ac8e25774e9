import io
from pathlib import Path

import pytest
from rich.console import Console

from appliance.cli.output import (
    ProgressLine,
    print_error,
    print_json,
    print_record,
    print_table,
    printable,
    progress_line,
    readable_time,
    upload_progress,
)
from appliance.sdk.accounts import Account


def test_terminal_control_sequences_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\x9b31m\r\x7f\tc\n") == "a[2Jb31m\tc\n"
    assert printable("naïve 日本語 🔥") == "naïve 日本語 🔥"


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("first [red]line[/red]\nsecond \x1b[31mline " + "x" * 200)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Error: first [red]line[/red] second [31mline " + "x" * 200 + "\n"


def test_json_has_the_wires_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([Account(name="accounts/acme", display_name="Äcme")])
    assert '"displayName": "Äcme"' in capsys.readouterr().out


def test_a_table_for_a_script_has_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["ID", "MODEL"], [["a" * 63, "accounts/fireworks/models/" + "m" * 63], ["b", "[bold]x"]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["a" * 63, "accounts/fireworks/models/" + "m" * 63]
    assert lines[2].split() == ["b", "[bold]x"]


def test_a_record_leaves_out_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    print_record([("Name", "x"), ("Description", ""), ("State", "READY")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["Name:", "x"], ["State:", "READY"]]


def test_progress_is_printed_once_for_each_change_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_line() as progress:
        for text in ("CREATING", "CREATING", "READY"):
            progress.show(text)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "CREATING\nREADY\n")


def test_progress_is_redrawn_in_place_on_a_terminal() -> None:
    screen = io.StringIO()
    line = ProgressLine(Console(file=screen, force_terminal=True, width=60))
    line.show("CREATING")
    line.hide()
    assert "CREATING · 0 s" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K"), "the line is wiped and the cursor is back"


def test_an_upload_says_what_was_sent_unless_it_is_to_be_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 1234)
    for is_quiet in (False, True):
        with upload_progress([file], is_quiet) as on_sent:
            on_sent(file, 1234)
    assert capsys.readouterr().err == "uploaded 1,234 bytes\n"


def test_times_are_readable_and_in_utc() -> None:
    assert readable_time("2026-11-21T02:38:25.367108Z") == "2026-11-21 02:38:25 UTC"
    assert readable_time(None) == ""
