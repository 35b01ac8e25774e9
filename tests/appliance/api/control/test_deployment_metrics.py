import asyncio
from functools import partial
from typing import Any

import pytest
from fireworks import BadRequestError, Fireworks, NotFoundError

from appliance.api.control.deployment_metrics import read_time_range
from appliance.errors import HearthError
from appliance.services.loads import KEPT_S
from tests.appliance.api.conftest import FOREIGN_MODEL, READY_MODEL, Api
from tests.fakes.fake_router import NUM_CACHED_TOKENS, NUM_PROMPT_TOKENS, WORDS

READY = f"{READY_MODEL.replace('models', 'deployments')}-deployment"
FOREIGN = f"{FOREIGN_MODEL.replace('models', 'deployments')}-deployment"


def ask(client: Fireworks) -> None:
    client.chat.completions.create(model=READY_MODEL, messages=[{"role": "user", "content": "hi"}])


async def show(client: Fireworks, deployment: str = READY, time_range: str = "10m") -> dict[str, float]:
    options: Any = {"params": {"timeRange": time_range} if time_range else {}}
    answer = await asyncio.to_thread(partial(client.get, f"/v1/{deployment}:metrics", cast_to=object, options=options))
    assert isinstance(answer, dict)
    metrics = answer["metrics"]
    assert isinstance(metrics, dict)
    return metrics


async def test_what_was_asked_and_answered_is_in_the_metrics(api: Api, admin: Fireworks) -> None:
    for _ in range(3):
        await asyncio.to_thread(ask, admin)
    metrics = await show(admin)
    assert metrics["requests_total"] == 3.0
    assert metrics["requests_error_rate"] == 0.0
    assert metrics["tokens_generated_per_request"] == len(WORDS)
    assert metrics["prompt_cache_hit_rate"] == pytest.approx(NUM_CACHED_TOKENS / NUM_PROMPT_TOKENS)
    assert metrics["latency"] > 0
    assert (await show(admin, time_range=""))["requests_total"] == 3.0, "ten minutes when nothing is said"


async def test_a_deployment_out_of_sight_has_no_metrics(admin: Fireworks) -> None:
    with pytest.raises(NotFoundError):
        await show(admin, FOREIGN)


async def test_a_time_range_that_is_none_is_refused_by_name(admin: Fireworks) -> None:
    with pytest.raises(BadRequestError, match="timeRange"):
        await show(admin, time_range="yesterday")


@pytest.mark.parametrize(("text", "seconds"), [("", 600.0), ("30s", 30.0), ("1m30s", 90.0), (f"{KEPT_S}s", KEPT_S)])
def test_time_ranges(text: str, seconds: float) -> None:
    assert read_time_range(text) == seconds


@pytest.mark.parametrize("text", ["0s", "500ms", "24h", "10", "-5m"])
def test_time_ranges_beyond_what_is_kept_are_refused(text: str) -> None:
    with pytest.raises(HearthError, match="timeRange"):
        read_time_range(text)
