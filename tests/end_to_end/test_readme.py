"""Every command of the README is run as it stands there, against a daemon of its own."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon_process import DaemonProcess, running_daemon
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_diffusion import build_tiny_sdxl
from tests.fakes.tiny_embedder import build_tiny_embedder
from tests.fakes.tiny_llm import build_tiny_model

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", README, re.M | re.S)
EXAMPLE = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}'
START_COMMANDS = "scripts/quickstart"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's home directory, with folders of models of his own in it, an addon, and a dataset."""
    home = tmp_path_factory.mktemp("home")
    (home / "train.jsonl").write_text(3 * f"{EXAMPLE}\n")
    build_tiny_model(home / "my-model", "qwen2")
    build_tiny_addon(home / "my-addon", home / "my-model")
    build_tiny_embedder(home / "my-embedder", "bert")
    build_tiny_sdxl(home / "my-painter")
    (home / "tests").symlink_to(ROOT / "tests")  # readers stand in the project's folder
    return home


@pytest.fixture(scope="module")
def reader_daemon(home: Path) -> Iterator[DaemonProcess]:
    (home / ".local/share").mkdir(parents=True)
    with running_daemon(home / ".local/share/hearth") as daemon:
        yield daemon


def reader_blocks() -> list[tuple[str, str]]:
    return [(language, text) for language, text in BLOCKS if START_COMMANDS not in text]


def test_the_first_block_is_the_two_commands() -> None:
    """They are run by test_quickstart and by every test with a daemon."""
    commands = [line.split("#")[0].strip() for line in BLOCKS[0][1].splitlines()]
    assert commands == ["scripts/quickstart", ".venv/bin/hearth serve"]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(reader_blocks())))
def test_a_block_runs_as_it_stands(reader_daemon: DaemonProcess, home: Path, number: int) -> None:
    language, text = reader_blocks()[number]
    script = text.replace("http://127.0.0.1:8080", reader_daemon.base_url)
    command = ["bash", "-euo", "pipefail", "-c", script] if language == "bash" else ["python", "-c", script]
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        "HEARTH_BASE_URL": reader_daemon.base_url,
    }
    run = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    if "What is Hearth?" in text:
        assert "Hearth" in run.stdout
