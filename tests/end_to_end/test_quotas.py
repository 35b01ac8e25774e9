"""Quotas over real HTTP and over the end of the daemon. The replicas are scripted."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import aiohttp
import pytest

from appliance.api.control.quotas import NO_LIMIT
from appliance.services.metering import COVERED_AHEAD
from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.endings import caller, read_stream
from tests.end_to_end.observation import ask
from tests.end_to_end.scripted import FAKE, script_model
from tests.fakes.fake_worker import FakeModel, Script
from tests.waiting import until

QUOTAS = "/v1/accounts/hearth/quotas"
NUM_STREAMS = 12
SENT_BEFORE_THE_KILL = 20
PROMPT_AT_MOST = 200
ALL_TOKENS = "SELECT sum(num_prompt_tokens + num_completion_tokens) FROM token_usage"
ALL_HOLDS = "SELECT count(*) FROM budget_holds"


def body(num_tokens: int, max_tokens: int | None = None) -> dict[str, Any]:
    messages = [{"role": "user", "content": Script(num_tokens=num_tokens).text()}]
    return {"model": EMBER, "messages": messages, "max_tokens": max_tokens or num_tokens}


def set_quota(daemon: DaemonProcess, quota_id: str, value: int) -> None:
    with daemon.client() as client:
        answer = client.patch(f"{QUOTAS}/{quota_id}", params={"allowMissing": True}, json={"value": str(value)})
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path_factory.mktemp("quotas") / "data", **FAKE) as daemon:
        script_model(daemon, FakeModel(step_ms=5.0))
        ask(daemon)
        yield daemon


@contextmanager
def limited(daemon: DaemonProcess, quota_id: str, value: int) -> Iterator[None]:
    set_quota(daemon, quota_id, value)
    yield
    set_quota(daemon, quota_id, NO_LIMIT)


def used_tokens(daemon: DaemonProcess) -> int:
    with daemon.client() as client:
        return int(client.get(f"{QUOTAS}/monthly-tokens").json()["usage"])


def stored(daemon: DaemonProcess, query: str) -> int:
    """A number from the file itself."""
    with closing(sqlite3.connect(daemon.data_dir / "hearth.db")) as db:
        return int(db.execute(query).fetchone()[0] or 0)


def test_what_nobody_limits_is_metered_within_a_moment(scripted: DaemonProcess) -> None:
    used = used_tokens(scripted)
    assert used > 0
    wait_until(lambda: stored(scripted, ALL_TOKENS) == used, 30, "usage in the store")


async def test_of_100_requests_at_once_exactly_10_get_through(scripted: DaemonProcess) -> None:
    with limited(scripted, "requests-per-minute", 10):
        async with caller(scripted) as session:
            endings = await asyncio.gather(*(read_stream(session, body(4)) for _ in range(100)))
    assert Counter(f"{ending.how} {ending.code}".strip() for ending in endings) == {
        "complete": 10,
        "refused RATE_LIMITED": 90,
    }


async def test_a_budget_is_exact_after_the_daemon_was_killed_in_the_middle_of_streams(scripted: DaemonProcess) -> None:
    before = used_tokens(scripted)
    set_quota(scripted, "monthly-tokens", 1_000_000)
    wait_until(lambda: stored(scripted, ALL_TOKENS) == before, 30, "what was used before in the store")
    received = [0] * NUM_STREAMS
    async with caller(scripted) as session:
        streams = [asyncio.create_task(_count(session, received, index)) for index in range(NUM_STREAMS)]
        await until(lambda: min(received) >= SENT_BEFORE_THE_KILL)
        scripted.kill()
        await asyncio.gather(*streams)
    assert stored(scripted, ALL_HOLDS) == NUM_STREAMS
    scripted.start()
    used = used_tokens(scripted) - before
    assert sum(received) <= used <= sum(received) + NUM_STREAMS * (COVERED_AHEAD + PROMPT_AT_MOST)
    assert (stored(scripted, ALL_HOLDS), stored(scripted, ALL_TOKENS)) == (0, before + used)
    with limited(scripted, "monthly-tokens", before + used + 50):
        async with caller(scripted) as session:
            assert (await read_stream(session, body(51))).code == "QUOTA_EXCEEDED"


async def _count(session: aiohttp.ClientSession, received: list[int], index: int) -> None:
    """Tokens of one stream until it breaks off: the fake says one with each event."""
    try:
        async with session.post("/v1/chat/completions", json={**body(100_000), "stream": True}) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    event = json.loads(line.removeprefix(b"data: "))
                    received[index] += bool(event["choices"][0]["delta"].get("content"))
    except aiohttp.ClientError:
        pass  # the daemon was killed
