import re

from tests.appliance.cli.conftest import Hearth


def test_the_version_is_that_of_the_program_and_of_the_daemon(hearth: Hearth) -> None:
    own, daemon = hearth("version").out.splitlines()
    assert re.fullmatch(r"hearth \d+\.\d+\.\d+", own)
    assert daemon == f"daemon {own.split()[1]} at {hearth.daemon.base_url}"
    assert hearth("version", "-o", "json").json == {
        "version": own.split()[1],
        "daemon": {"version": own.split()[1], "baseUrl": hearth.daemon.base_url},
    }


def test_the_version_needs_no_daemon(hearth: Hearth) -> None:
    outcome = hearth("version", HEARTH_BASE_URL="http://127.0.0.1:1")
    assert (outcome.exit_code, len(outcome.out.splitlines())) == (0, 1)
