"""The last `fireworks-ai` with the old REST client, in an environment of its own: what a script of 2025 does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess

PYTHON = Path(sys.prefix) / "fireworks-0.19" / "bin" / "python"
SCRIPT = Path(__file__).with_name("fireworks_0_19_script.py")


@pytest.fixture(scope="module")
def told(daemon: DaemonProcess) -> Any:
    """What the script saw, by the name of the call."""
    assert PYTHON.exists(), "`EXTRAS=test scripts/install` makes this environment"
    command = [str(PYTHON), str(SCRIPT), f"{daemon.base_url}/inference/v1", daemon.api_key, EMBER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_the_old_release(told: Any) -> None:
    assert told["version"] == "0.19.20"


def test_chat_and_stream_say_the_same(told: Any) -> None:
    assert "Hearth" in told["chat"]
    assert told["stream"] == told["chat"]
    assert told["async_stream"] == told["chat"]


def test_completions_count_their_tokens(told: Any) -> None:
    assert told["completion"]["text"]
    assert told["completion"]["completion_tokens"] == 4
    assert told["completion_stream"] == told["completion"]["text"]
    assert len(told["logprobs"]["tokens"]) == 4


def test_calls_and_json_come_as_objects(told: Any) -> None:
    assert told["call"] == {"name": "get_deployment_status", "arguments": {"deployment": "blue-fox"}}
    assert told["json"] == {"country": "France", "capital": "Paris"}


def test_models_are_listed(told: Any) -> None:
    assert EMBER in told["models"]


def test_errors_are_the_packages_own(told: Any) -> None:
    assert told["errors"] == ["AuthenticationError", "InvalidRequestError", "InvalidRequestError"]
