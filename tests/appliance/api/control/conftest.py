"""The control plane as the real `fireworks` package sees it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fireworks import Fireworks

from appliance.domain import Role
from tests.appliance.api.conftest import Api
from tests.fakes.tiny_llm import build_tiny_model


def fireworks_client(api: Api, role: Role) -> Fireworks:
    """Synchronous: call it in a thread, the server runs on this loop."""
    return Fireworks(base_url=api.url, api_key=api.keys[role], account_id="hearth", max_retries=0)


@pytest.fixture
def admin(api: Api) -> Iterator[Fireworks]:
    with fireworks_client(api, Role.ADMIN) as client:
        yield client


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Llama, random and tiny, as transformers saves it."""
    return build_tiny_model(tmp_path_factory.mktemp("checkpoint"), "llama", dtype="bfloat16")
