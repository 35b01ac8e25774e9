"""The service put into a scratch root, brought up to date there and taken away again."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.daemon import EXIT_CONFIG, EXIT_IO_ERROR, EXIT_LOCKED

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "install_service"
UNIT = ROOT / "systemd" / "hearth.service"
SCORE_MAX = 20
"""Tenths of what `systemd-analyze security` calls the exposure level: 2.0."""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


@needs("systemd-sysusers")
def test_everything_is_where_the_unit_looks_for_it(tmp_path: Path) -> None:
    installed = run(SCRIPT, "--root", tmp_path)
    assert installed.returncode == 0, installed.stderr
    assert "sudo cat /var/lib/hearth/admin-api-key" in installed.stdout
    assert (tmp_path / "etc/systemd/system/hearth.service").read_text() == UNIT.read_text()
    assert (tmp_path / "etc/hearth/hearth.toml").stat().st_mode & 0o777 == 0o644
    for part in ("appliance/daemon.py", "runtime/worker.py", "models/builtin", "scripts/install", "pyproject.toml"):
        assert (tmp_path / "opt/hearth" / part).exists()
    assert (tmp_path / "opt/hearth/.venv/bin/hearth").exists()
    assert str((tmp_path / "usr/local/bin/hearth").readlink()) == "/opt/hearth/.venv/bin/hearth"
    assert not list((tmp_path / "opt/hearth").rglob("*.new"))
    users = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^hearth:.*:/var/lib/hearth:/usr/s?bin/nologin$", users, re.M)
    assert re.search(r"^render:.*\bhearth$", (tmp_path / "etc/group").read_text(), re.M)


@needs("systemd-sysusers")
def test_again_it_renews_the_program_and_keeps_the_configuration(tmp_path: Path) -> None:
    assert run(SCRIPT, "--root", tmp_path).returncode == 0
    (tmp_path / "etc/hearth/hearth.toml").write_text("region = 'ATTIC'\n")
    (tmp_path / "opt/hearth/appliance/gone.py").write_text("left by an older version")
    assert run(SCRIPT, "--root", tmp_path).returncode == 0
    assert (tmp_path / "etc/hearth/hearth.toml").read_text() == "region = 'ATTIC'\n"
    assert not (tmp_path / "opt/hearth/appliance/gone.py").exists()


@needs("systemd-sysusers")
def test_removed_it_leaves_state_and_configuration(tmp_path: Path) -> None:
    assert run(SCRIPT, "--root", tmp_path).returncode == 0
    (tmp_path / "var/lib/hearth").mkdir(parents=True)
    assert run(SCRIPT, "--root", tmp_path, "--remove").returncode == 0
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert "etc/hearth/hearth.toml" in left
    assert not [name for name in left if name.startswith(("opt/", "usr/", "etc/systemd"))]
    assert (tmp_path / "var/lib/hearth").exists()


def test_what_it_does_not_know_is_a_usage_error() -> None:
    assert run(SCRIPT, "--frob").returncode == 2
    assert run(SCRIPT, "--root").returncode == 2


@needs("systemd-analyze")
def test_the_unit_can_reach_little_of_the_machine() -> None:
    scored = run("systemd-analyze", "security", "--offline=true", f"--threshold={SCORE_MAX}", UNIT)
    assert scored.returncode == 0, scored.stdout[-300:]


@needs("systemd-analyze")
def test_systemd_understands_all_of_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert "/opt/hearth/.venv/bin/hearth" in text
    (tmp_path / "hearth.service").write_text(text.replace("/opt/hearth/.venv/bin/hearth", str(SCRIPT)))
    verified = run("systemd-analyze", "verify", tmp_path / "hearth.service")
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_unit_restarts_what_a_restart_can_help() -> None:
    prevented = re.search(r"^RestartPreventExitStatus=(.+)$", UNIT.read_text(), re.M)
    assert prevented is not None
    statuses = {int(status) for status in prevented[1].split()}
    assert EXIT_CONFIG in statuses
    assert not statuses & {0, EXIT_IO_ERROR, EXIT_LOCKED}
