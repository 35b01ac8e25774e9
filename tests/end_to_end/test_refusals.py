"""What the API says to requests that are wrong, without a client that hides it."""

import json
from typing import Any

import httpx
import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess

QUESTION = [{"role": "user", "content": "What is Hearth?"}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": QUESTION}, "model"),
        ({"model": EMBER}, "messages"),
        ({"model": EMBER, "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"model": EMBER, "messages": QUESTION, "temperature": "hot"}, "temperature"),
        ({"model": EMBER, "messages": QUESTION, "temperature": 9}, "temperature"),
        ({"model": EMBER, "messages": QUESTION, "n": 0}, "n"),
        ({"model": EMBER, "messages": QUESTION, "max_tokens": -1}, "max_tokens"),
        ({"model": EMBER, "messages": QUESTION, "mirostat_target": -3}, "mirostat_target"),
    ],
)
def test_a_malformed_body_is_400_naming_the_field(daemon: DaemonProcess, body: dict[str, Any], param: str) -> None:
    with daemon.client() as client:
        answer = client.post("/inference/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param, answer.text


def test_text_that_is_not_json_is_400(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        answer = client.post("/inference/v1/chat/completions", content=b'{"model": ')
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["message"]


def test_the_daemon_tells_its_health_without_a_key(daemon: DaemonProcess) -> None:
    for path in ("/health", "/healthz", "/readyz"):
        assert httpx.get(daemon.base_url + path).status_code == 200
