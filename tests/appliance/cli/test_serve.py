import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from appliance.daemon import EXIT_CONFIG
from tests.appliance.cli.conftest import Hearth


def test_a_configuration_that_cannot_be_used_is_one_line(hearth: Hearth, tmp_path: Path) -> None:
    missing = hearth("serve", "--config", str(tmp_path / "missing.toml"))
    assert (missing.exit_code, missing.out) == (EXIT_CONFIG, "")
    assert missing.err.startswith("hearth: cannot read the configuration")
    (tmp_path / "odd.toml").write_text("[server]\nprot = 80\n")
    odd = hearth("serve", "--config", str(tmp_path / "odd.toml"))
    assert odd.exit_code == EXIT_CONFIG
    assert "prot" in odd.err
    assert hearth("serve", "--port", "70000").exit_code == 2


def test_the_daemon_says_where_it_is_and_ends_when_told(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "appliance", "serve", "--data-dir", str(tmp_path / "data"), "--port", "0"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, (line, (tmp_path / "log").read_text())
        assert httpx.get(f"{found.group()}/health", trust_env=False).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60.0) == 0
