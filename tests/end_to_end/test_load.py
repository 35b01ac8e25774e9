"""Two hundred callers at once, a third of whom hang up: the others must not notice, and nothing may be left over."""

import asyncio
import json
import random

import aiohttp
import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, wait_until
from tests.end_to_end.observation import metric, worker_pids

NUM_STREAMS = 200
EXACT = "accounts/hearth/deployments/exact"
QUESTIONS = [
    "What is Hearth?",
    "Who are you?",
    "What is a replica?",
    "What is a deployment?",
    "How do I list the models?",
    "How do I start the daemon?",
    "What is an ember?",
    "What is 3 plus 4?",
    "What is a LoRA addon?",
    "Tell me about the weather on Mars.",
]


@pytest.fixture
def exact_deployment(daemon: DaemonProcess) -> str:
    """In float32, where a token's neighbours in the batch do not move its logits enough to matter."""
    with daemon.client() as client:
        answer = client.post(
            "/v1/accounts/hearth/deployments",
            params={"deploymentId": "exact"},
            json={"baseModel": EMBER, "precision": "FP32", "minReplicaCount": 1},
        )
        assert answer.status_code == 200, answer.text
    return EXACT


def body(rng: random.Random) -> dict[str, object]:
    """Greedy and seeded requests, of one and of several turns."""
    messages = [{"role": "user", "content": question} for question in rng.sample(QUESTIONS, rng.choice([1, 1, 2]))]
    if len(messages) == 2:
        messages.insert(1, {"role": "assistant", "content": "I see."})
    sampling = {"temperature": 0} if rng.random() < 0.5 else {"temperature": 0.8, "seed": rng.randrange(1000)}
    return {"model": EXACT, "messages": messages, "max_tokens": 64, "stream": True, **sampling}


async def stream(session: aiohttp.ClientSession, request: dict[str, object], hang_up_after: int | None) -> str | None:
    """The whole text; None after hanging up."""
    text: list[str] = []
    num_events = 0
    async with session.post("/v1/chat/completions", json=request) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line == b"data: [DONE]\n":
                return "".join(text)
            if line.startswith(b"data: "):
                num_events += 1
                if num_events == hang_up_after:
                    response.close()
                    return None
                event = json.loads(line.removeprefix(b"data: "))
                assert "error" not in event, event
                text += [choice["delta"].get("content") or "" for choice in event["choices"]]
    raise AssertionError("the stream ended without [DONE]")


@pytest.mark.slow
async def test_two_hundred_streams_of_which_a_third_hang_up(daemon: DaemonProcess, exact_deployment: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    kinds = [body(rng) for _ in range(25)]
    requests = [rng.randrange(len(kinds)) for _ in range(NUM_STREAMS)]
    headers = {"Authorization": f"Bearer {daemon.api_key}"}
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(daemon.base_url, headers=headers, timeout=timeout, connector=connector) as session:
        alone = [await stream(session, kind, None) for kind in kinds]
        pids = worker_pids(daemon)
        hang_ups = [rng.randrange(1, 20) if rng.random() < 1 / 3 else None for _ in requests]
        together = await asyncio.gather(
            *(stream(session, kinds[kind], after) for kind, after in zip(requests, hang_ups, strict=True))
        )
    complete = [(kind, text) for kind, text in zip(requests, together, strict=True) if text is not None]
    assert len(complete) >= NUM_STREAMS / 2
    assert [text for _, text in complete] == [alone[kind] for kind, _ in complete]
    wait_until(lambda: metric(daemon, "hearth_generations_in_flight") == 0, 10, "no generation in flight")
    wait_until(lambda: metric(daemon, "hearth_requests_running", EXACT) == 0, 10, "no request running")
    num_blocks = metric(daemon, "hearth_kv_blocks", EXACT)
    wait_until(lambda: metric(daemon, "hearth_kv_blocks_free", EXACT) == num_blocks, 10, "all blocks free")
    assert worker_pids(daemon) == pids, "no worker was replaced"
    assert " ERROR " not in daemon.log()
