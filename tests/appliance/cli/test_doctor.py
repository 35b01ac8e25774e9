from pathlib import Path

import msgspec

from tests.appliance.cli.conftest import Hearth


def test_a_daemon_at_work_is_well_and_names_its_version(hearth: Hearth) -> None:
    outcome = hearth("doctor", "-o", "json", HEARTH_SIMULATED_GPUS="1xNVIDIA_L4_24GB")
    findings = {finding["check"]: finding for finding in msgspec.json.decode(outcome.out)}
    assert outcome.exit_code == 0, outcome.out
    assert hearth.daemon.base_url in findings["Daemon"]["message"]
    assert findings["Database"]["verdict"] == findings["Audit log"]["verdict"] == "ok"


def test_people_get_lines_with_what_to_do_and_a_sum(hearth: Hearth, tmp_path: Path) -> None:
    outcome = hearth(
        "doctor", "--data-dir", str(tmp_path / "none"), HEARTH_BASE_URL="http://127.0.0.1:1", HEARTH_PORT="0"
    )
    assert outcome.exit_code == 0, outcome.out
    lines = outcome.out.splitlines()
    assert f"warning  Data directory  {tmp_path / 'none'} is not there" in lines
    assert "                         → hearth serve, or systemctl start hearth" in lines
    assert lines[-1].endswith("0 problems")


def test_a_problem_is_exit_status_1(hearth: Hearth, tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text("prot = 1\n")
    outcome = hearth("doctor", "--config", str(tmp_path / "hearth.toml"))
    assert outcome.exit_code == 1
    assert "problem" in outcome.out
    assert "hearth config example" in outcome.out


def test_a_daemon_that_does_not_answer_is_a_problem(hearth: Hearth) -> None:
    outcome = hearth("doctor", HEARTH_BASE_URL="http://127.0.0.1:1")
    assert outcome.exit_code == 1
    assert "is at work on this data directory" in outcome.out


def test_on_a_terminal_no_line_is_wider_than_it(hearth: Hearth) -> None:
    with hearth.in_terminal("doctor") as terminal:
        terminal.wait()
        lines = [line for line in terminal.text.splitlines() if "looked at" not in line]  # that one is redrawn
        assert max(len(line) for line in lines) <= 80
        assert "problems" in terminal.text
