"""`kill -9` of a daemon that writes and serves, and what must hold after it; shared by the suite and the soak."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import psutil

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, wait_until

LONG_TALK = [{"role": "user", "content": "Tell me about Hearth. " * 20}]


def stream_events(daemon: DaemonProcess, body: dict[str, Any]) -> Iterator[dict[str, Any] | str]:
    with daemon.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            response.read()
            yield response.json()
            return
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield "[DONE]" if line == "data: [DONE]" else json.loads(line.removeprefix("data: "))


class Writer(threading.Thread):
    """Creates API keys as fast as it can and remembers the acknowledged ones."""

    def __init__(self, daemon: DaemonProcess) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self._daemon = daemon

    def run(self) -> None:
        with self._daemon.client() as client:
            while True:
                try:
                    answer = client.post("/v1/accounts/hearth/users/admin/apiKeys", json={"apiKey": {}})
                except httpx.TransportError:
                    return  # the daemon was killed
                if answer.status_code == 200:
                    self.acknowledged.append(answer.json()["keyId"])


class Kill(NamedTuple):
    acknowledged: set[str]
    """Ids of the keys that were acknowledged before it."""
    restart_s: float
    """From its start until it said that it was ready."""


def kill_daemon_while_it_writes_and_serves(daemon: DaemonProcess, after_s: float) -> Kill:
    """kill -9 under load, then start again: workers are gone within 2 s, and it is ready without help."""
    writer = Writer(daemon)
    writer.start()
    talk = threading.Thread(target=_talk_until_killed, args=(daemon,), daemon=True)
    talk.start()
    time.sleep(after_s)  # the moment of the kill is the point of the test
    workers = daemon.workers()
    daemon.kill()
    wait_until(lambda: not any(is_alive(process) for process in workers), 2.0, "workers gone")
    writer.join(5.0)
    talk.join(5.0)
    daemon.spawn()
    restart_s = wait_until(daemon.is_announced, 30.0, "ready again")
    return Kill(set(writer.acknowledged), restart_s)


def _talk_until_killed(daemon: DaemonProcess) -> None:
    body = {"model": EMBER, "messages": LONG_TALK, "stream": True, "ignore_eos": True, "max_tokens": 400}
    try:
        while True:
            list(stream_events(daemon, body))
    except (httpx.HTTPError, json.JSONDecodeError):
        return


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stored_keys(daemon: DaemonProcess) -> set[str]:
    keys: set[str] = set()
    token = ""
    with daemon.client() as client:
        while True:
            answer = client.get(
                "/v1/accounts/hearth/users/admin/apiKeys", params={"pageSize": 200, "pageToken": token}
            ).json()
            keys |= {key["keyId"] for key in answer["apiKeys"]}
            token = answer.get("nextPageToken", "")
            if not token:
                return keys
