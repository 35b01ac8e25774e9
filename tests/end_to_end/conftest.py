"""One daemon with the built-in model, shared by the tests that only talk to it."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.end_to_end.daemon_process import DaemonProcess, running_daemon

EMBER = "accounts/fireworks/models/ember-chat"


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path_factory.mktemp("shared") / "data") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def openai_client(daemon: DaemonProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{daemon.base_url}/inference/v1", api_key=daemon.api_key, max_retries=0) as client:
        yield client
