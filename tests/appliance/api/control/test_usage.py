"""Usage through the API."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from appliance.domain import Role
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.fakes.fake_router import NUM_CACHED_TOKENS, NUM_PROMPT_TOKENS, WORDS

USAGE = "/v1/accounts/hearth/billingUsage"
OPTIONS = "/v1/accounts/hearth/accountUsageFilterOptions"
CHAT = {"model": READY_MODEL, "messages": [{"role": "user", "content": "Hi"}]}


def window(**more: str) -> dict[str, str]:
    now = datetime.now(UTC)
    start, end = now - timedelta(days=1), now + timedelta(hours=1)
    return {"startTime": start.isoformat(), "endTime": end.isoformat(), **more}


async def chat(api: Api, role: Role = Role.USER) -> None:
    async with api.session.post("/v1/chat/completions", json=CHAT, headers=api.bearer(role)) as response:
        assert response.status == 200


async def get(api: Api, path: str, query: dict[str, str], role: Role = Role.ADMIN) -> tuple[int, Any]:
    async with api.session.get(path, params=query, headers=api.bearer(role)) as response:
        return response.status, await response.json()


async def test_what_was_used_a_moment_ago_is_seen(api: Api) -> None:
    for _ in range(2):
        await chat(api)
    status, answer = await get(api, USAGE, window(groupBy="model_name,user_id"))
    assert status == 200
    assert answer["dedicatedCosts"] == []
    (row,) = answer["serverlessCosts"]
    counted = {name: row[name] for name in row if "Time" not in name}
    assert counted == {
        "usageType": "TEXT_COMPLETION_INFERENCE_USAGE",
        "modelName": READY_MODEL,
        "apiKeyId": "",
        "requestCount": "2",
        "promptTokens": str(2 * NUM_PROMPT_TOKENS),
        "cachedPromptTokens": str(2 * NUM_CACHED_TOKENS),
        "completionTokens": str(2 * len(WORDS)),
        "audioInputSeconds": 0.0,
        "imageCount": "0",
        "group": {"model_name": READY_MODEL, "user_id": "user"},
    }


async def test_each_key_is_seen_unless_somebody_asks_for_less(api: Api) -> None:
    await chat(api)
    await chat(api, Role.ADMIN)
    _, answer = await get(api, USAGE, window())
    keys = {row["apiKeyId"] for row in answer["serverlessCosts"]}
    assert len(keys) == 2
    _, options = await get(api, OPTIONS, window())
    assert set(options["apiKeyIds"]) == keys
    assert options["modelNames"] == [READY_MODEL]
    assert options["deploymentNames"] == ["accounts/fireworks/deployments/tiny-deployment"]
    assert options["acceleratorTypes"] == []


async def test_users_see_their_own(api: Api) -> None:
    await chat(api, Role.ADMIN)
    assert (await get(api, USAGE, window(), Role.USER))[1] == {"serverlessCosts": [], "dedicatedCosts": []}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"startTime": "", "endTime": ""}, "startTime"),
        ({"startTime": "yesterday"}, "startTime"),
        ({"startTime": "2020-01-01T00:00:00Z"}, "endTime"),
        ({"usageType": "FREE"}, "usageType"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"groupBy": "model_name,colour"}, "groupBy"),
        ({"readMask": "nonsense"}, "readMask"),
    ],
)
async def test_what_makes_no_sense_is_named(api: Api, query: dict[str, str], field: str) -> None:
    status, answer = await get(api, USAGE, window() | query)
    assert (status, field in answer["message"]) == (400, True), answer


async def test_a_mask_leaves_out_the_rest(api: Api) -> None:
    assert (await get(api, USAGE, window(readMask="dedicatedCosts")))[1] == {"dedicatedCosts": []}
