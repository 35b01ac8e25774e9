import sys
from pathlib import Path
from typing import Any

from tests.appliance.cli.conftest import Hearth
from tests.fakes.terminal import CTRL_C

PYTHON = sys.executable


def leases(hearth: Hearth) -> list[Any]:
    answer: Any = hearth("ps", "-o", "json").json
    return list(answer["leases"])


def test_a_program_runs_with_memory_of_its_own_and_its_status_is_handed_on(hearth: Hearth) -> None:
    outcome = hearth("lease", "--memory", "20GiB", "--for", "1h", "--", PYTHON, "-c", "raise SystemExit(7)")
    assert outcome.exit_code == 7, outcome.err
    assert "20.0 GiB on simulated-" in outcome.err
    assert leases(hearth) == []


def test_while_it_runs_the_memory_is_taken_and_ctrl_c_ends_it(hearth: Hearth) -> None:
    program = "import time; print('at work', flush=True); time.sleep(60)"
    with hearth.in_terminal("lease", "--memory", "70GiB", "--for", "1h", "--", PYTHON, "-c", program) as terminal:
        terminal.read_until("at work")
        (held,) = leases(hearth)
        assert (held["memoryBytes"], held["command"]) == (70 * 2**30, Path(PYTHON).name)
        answer: Any = hearth("ps", "-o", "json").json
        (device,) = [device for device in answer["devices"] if device["id"] == held["deviceIds"][0]]
        assert {"owner": f"leases/{held['id']}", "memoryBytes": 70 * 2**30} in device["holders"]
        terminal.type(CTRL_C)
        assert terminal.wait() == 130
    assert leases(hearth) == []


def test_when_the_time_is_over_the_program_is_ended(hearth: Hearth) -> None:
    program = "import time; time.sleep(60)"
    outcome = hearth("lease", "--memory", "1GiB", "--for", "1s", "--", PYTHON, "-c", program)
    assert outcome.exit_code == 128 + 15
    assert "ending the program" in outcome.err
    assert leases(hearth) == []


def test_what_does_not_fit_says_why(hearth: Hearth) -> None:
    outcome = hearth("lease", "--memory", "100GiB", "--for", "1h", "--wait-for", "1s", "--", "true")
    assert outcome.exit_code == 1
    assert "100.0 GiB" in outcome.err
    nonsense = hearth("lease", "--memory", "much", "--for", "1h", "--", "true")
    assert (nonsense.exit_code, nonsense.err[:16]) == (1, "Error: --memory:")
    missing = hearth("lease", "--memory", "1GiB", "--for", "1h", "--", "no-such-program")
    assert (missing.exit_code, "no-such-program" in missing.err) == (1, True)
    assert leases(hearth) == []
