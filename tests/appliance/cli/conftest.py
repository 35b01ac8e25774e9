"""The command line against a daemon in this process; its workers follow scripts instead of models."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from appliance.cli.main import build_app
from appliance.config import ImportSettings
from tests.fakes.daemon_thread import DaemonThread, daemon_in_thread
from tests.fakes.terminal import Terminal, terminal
from tests.fakes.tiny_llm import build_tiny_model


class Outcome(msgspec.Struct):
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return msgspec.json.decode(self.out)


class Hearth:
    """`hearth(...)` runs a command line as the user of the daemon's machine; the key is found by itself."""

    def __init__(self, daemon: DaemonThread) -> None:
        self.daemon = daemon
        self.environment = {
            "HEARTH_BASE_URL": daemon.base_url,
            "HEARTH_DATA_DIR": str(daemon.data_dir),
            "XDG_CONFIG_HOME": str(daemon.data_dir.parent / "config"),
        }

    @contextmanager
    def in_terminal(self, *words: str, **environment: str) -> Iterator[Terminal]:
        """The same in a process of its own, with a terminal of 80 columns."""
        given = {"HEARTH_API_KEY": "", "FIREWORKS_API_KEY": "", **self.environment, **environment}
        with terminal([sys.executable, "-m", "appliance", *words], given) as opened:
            yield opened

    def __call__(self, *words: str, stdin: str | None = None, **environment: str) -> Outcome:
        env = {"HEARTH_API_KEY": None, "FIREWORKS_API_KEY": None, **self.environment, **environment}
        result = CliRunner().invoke(build_app(), list(words), input=stdin, env=env, prog_name="hearth")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("cli") / "checkpoint", "llama")


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[DaemonThread]:
    imports = ImportSettings(import_roots=[str(checkpoint.parent)])
    with daemon_in_thread(tmp_path_factory.mktemp("cli") / "data", imports, cold_start_wait_s=0.5) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def hearth(daemon: DaemonThread) -> Hearth:
    return Hearth(daemon)


@pytest.fixture(scope="session")
def model_id(hearth: Hearth, checkpoint: Path) -> str:
    """A model that is ready to be deployed."""
    outcome = hearth("create", "model", "shared-model", str(checkpoint), "--quiet")
    assert outcome.exit_code == 0, outcome.err
    return "shared-model"
