from pathlib import Path

from tests.appliance.cli.conftest import Hearth
from tests.appliance.store.old_databases import NEWEST, make_database


def test_an_older_database_is_tried_and_left_alone(hearth: Hearth, tmp_path: Path) -> None:
    make_database(tmp_path / "hearth.db", 3)
    tried = hearth("upgrade", "--check", "--data-dir", str(tmp_path))
    assert tried.exit_code == 0, tried.err
    assert f"can be upgraded from schema 3 to {NEWEST}" in tried.out
    outcome = hearth("upgrade", "--check", "--data-dir", str(tmp_path), "-o", "json").json
    assert isinstance(outcome, dict)
    assert (outcome["fromSchema"], outcome["toSchema"], outcome["isNeeded"]) == (3, NEWEST, True)


def test_a_running_daemons_has_nothing_to_upgrade(hearth: Hearth) -> None:
    tried = hearth("upgrade", "--check")
    assert tried.exit_code == 0, tried.err
    assert tried.out.endswith("nothing to upgrade\n")


def test_what_would_keep_the_daemon_from_starting_is_exit_status_1(hearth: Hearth, tmp_path: Path) -> None:
    (tmp_path / "hearth.db").write_bytes(b"nonsense" * 1000)
    assert hearth("upgrade", "--check", "--data-dir", str(tmp_path)).exit_code == 1
    assert hearth("upgrade", "--check", "--data-dir", str(tmp_path / "none")).exit_code == 1


def test_without_check_it_says_who_upgrades(hearth: Hearth) -> None:
    refused = hearth("upgrade")
    assert refused.exit_code == 2
    assert "upgrades by itself" in " ".join(refused.err.split())
