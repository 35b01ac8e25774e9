"""Quotas through the API: seen, set, lifted; and what who meets one is told, in each dialect."""

import asyncio
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from appliance.api.control.quotas import NO_LIMIT
from appliance.domain import Role
from tests.appliance.api.conftest import READY_MODEL, Api

QUOTAS = "/v1/accounts/hearth/quotas"
CHAT = {"model": READY_MODEL, "max_tokens": 6, "messages": [{"role": "user", "content": "Hi"}]}


async def call(api: Api, method: str, path: str, body: object = None, role: Role = Role.ADMIN, **query: str) -> Any:
    async with api.session.request(method, path, json=body, headers=api.bearer(role), params=query) as response:
        return response.status, await response.json()


async def set_quota(api: Api, quota_id: str, value: int, prefix: str = "/v1/accounts/hearth") -> None:
    status, answer = await call(api, "PATCH", f"{prefix}/quotas/{quota_id}", {"value": str(value)}, allowMissing="true")
    assert status == 200, answer
    assert answer["value"] == str(value)


async def ask(api: Api, role: Role = Role.USER, path: str = "/v1/chat/completions") -> Any:
    async with api.session.post(path, json=CHAT, headers=api.bearer(role)) as response:
        return response.status, await response.json(), response.headers


async def test_everything_that_can_be_limited_is_listed_with_what_is_used(api: Api) -> None:
    status, answer = await call(api, "GET", QUOTAS)
    assert status == 200
    quotas = {quota["name"].rpartition("/")[2]: quota for quota in answer["quotas"]}
    assert answer["totalSize"] == len(quotas) == 9
    assert quotas["replicas"] == {
        "name": "accounts/hearth/quotas/replicas",
        "value": str(NO_LIMIT),
        "maxValue": str(NO_LIMIT),
        "usage": 1.0,
        "unit": "replicas",
        "description": "Sum of maxReplicaCount of the account's deployments.",
    }
    assert "usage" not in quotas["requests-per-minute"]


async def test_a_quota_that_is_set_shows_its_value_and_sending_it_back_changes_nothing(api: Api) -> None:
    await set_quota(api, "requests-per-minute", 10)
    await ask(api)
    _, quota = await call(api, "GET", f"{QUOTAS}/requests-per-minute")
    assert (quota["value"], quota["maxValue"], quota["usage"]) == ("10", str(NO_LIMIT), 1.0)
    assert quota["updateTime"]
    assert await call(api, "PATCH", f"{QUOTAS}/requests-per-minute", quota) == (200, quota)


async def test_the_largest_number_lifts_a_quota(api: Api) -> None:
    await set_quota(api, "requests-per-minute", 1)
    await set_quota(api, "requests-per-minute", NO_LIMIT)
    for _ in range(3):
        assert (await ask(api))[0] == 200


async def test_users_and_keys_have_those_that_can_be_told_apart_by_them(api: Api) -> None:
    status, answer = await call(api, "GET", "/v1/accounts/hearth/users/user/quotas")
    names = {quota["name"] for quota in answer["quotas"]}
    assert status == 200
    assert "accounts/hearth/users/user/quotas/monthly-tokens" in names
    assert "accounts/hearth/users/user/quotas/replicas" not in names
    status, _ = await call(api, "PATCH", "/v1/accounts/hearth/users/user/quotas/replicas", {"value": 1})
    assert status == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"{QUOTAS}/nonsense", {"value": 1}, 404),
        ("/v1/accounts/other/quotas/replicas", {"value": 1}, 200),
        ("/v1/accounts/nobody/quotas/replicas", {"value": 1}, 404),
        ("/v1/accounts/hearth/users/nobody/quotas/monthly-tokens", {"value": 1}, 404),
        ("/v1/accounts/hearth/apiKeys/nothing/quotas/monthly-tokens", {"value": 1}, 404),
        (f"{QUOTAS}/replicas", {"value": "many"}, 400),
        (f"{QUOTAS}/replicas", {"value": -1}, 400),
        (f"{QUOTAS}/replicas", {"value": "9" * 19}, 400),
        (f"{QUOTAS}/replicas", {"value": 9, "maxValue": 8}, 400),
        (f"{QUOTAS}/monthly-spend-usd", {"value": 50}, 400),
        (f"{QUOTAS}/replicas", {}, 200),
    ],
)
async def test_what_cannot_be_set_is_refused(api: Api, path: str, body: dict[str, object], status: int) -> None:
    assert (await call(api, "PATCH", path, body))[0] == status


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_only_administrators_set_quotas(api: Api, role: Role) -> None:
    assert (await call(api, "PATCH", f"{QUOTAS}/replicas", {"value": 1}, role))[0] == 403


async def test_more_replicas_than_allowed_are_refused(api: Api) -> None:
    await set_quota(api, "replicas", 2)
    body = {"baseModel": READY_MODEL, "maxReplicaCount": 2}
    status, answer = await call(api, "POST", "/v1/accounts/hearth/deployments", body)
    assert status == 429
    assert answer["details"][0]["reason"] == "QUOTA_EXCEEDED"
    assert "is 2, of which 1 are used; 2 more are wanted" in answer["message"]
    status, answer = await call(api, "POST", "/v1/accounts/hearth/deployments", {**body, "maxReplicaCount": 1})
    assert status == 200
    status, _ = await call(api, "PATCH", f"/v1/{answer['name']}", {"maxReplicaCount": 2})
    assert status == 429


async def test_without_device_time_nothing_more_is_started(api: Api) -> None:
    body = {"baseModel": READY_MODEL}
    _, made = await call(api, "POST", "/v1/accounts/hearth/deployments", body)
    scale = f"/v1/{made['name']}:scale"
    assert (await call(api, "PATCH", scale, {"replicaCount": 0}))[0] == 200
    await set_quota(api, "monthly-accelerator-seconds", 0)
    status, answer = await call(api, "POST", "/v1/accounts/hearth/deployments", body)
    assert (status, "monthly-accelerator-seconds" in answer["message"]) == (402, True)
    assert (await call(api, "PATCH", scale, {"replicaCount": 1}))[0] == 402
    assert (await call(api, "PATCH", scale, {"replicaCount": 0}))[0] == 200


# ---- at the limit


async def test_of_100_requests_at_once_exactly_10_get_through(api: Api) -> None:
    await set_quota(api, "requests-per-minute", 10)
    answers = await asyncio.gather(*(ask(api) for _ in range(100)))
    statuses = [status for status, _, _ in answers]
    assert (statuses.count(200), statuses.count(429)) == (10, 90)


async def test_a_rate_says_how_long_to_wait_and_what_is_left(api: Api) -> None:
    await set_quota(api, "serverless-inference-rpm", 2)
    await set_quota(api, "requests-per-minute", 2)
    await set_quota(api, "generated-tokens-per-minute", 1000)
    status, _, headers = await ask(api)
    assert status == 200
    assert headers["x-ratelimit-over-limit"] == "no"
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert headers["x-ratelimit-limit-tokens-generated"] == "1000"
    await ask(api)
    status, answer, headers = await ask(api)
    assert status == 429
    assert headers["x-ratelimit-over-limit"] == "yes"
    assert 1 <= int(headers["Retry-After"]) <= 61
    assert "x-should-retry" not in headers
    assert answer["error"]["type"] == "rate_limit_error"
    assert (answer["error"]["quota"], answer["error"]["limit"]) == ("requests-per-minute", 2)


async def test_a_budget_that_is_used_up_is_no_reason_to_retry(api: Api) -> None:
    await set_quota(api, "monthly-tokens", 1, "/v1/accounts/hearth/users/user")
    status, answer, headers = await ask(api)
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (402, "QUOTA_EXCEEDED", "billing_error")
    assert headers["x-should-retry"] == "false"
    assert "Retry-After" not in headers
    assert (await ask(api, Role.ADMIN))[0] == 200


async def test_streams_are_refused_with_a_status_too(api: Api) -> None:
    await set_quota(api, "monthly-tokens", 1)
    body = {**CHAT, "stream": True}
    async with api.session.post("/v1/chat/completions", json=body, headers=api.bearer()) as response:
        assert response.status == 402


async def test_anthropic_clients_are_told_in_their_words(api: Api) -> None:
    await set_quota(api, "monthly-tokens", 1)
    status, answer, _ = await ask(api, path="/v1/messages")
    assert (status, answer["type"], answer["error"]["type"]) == (402, "error", "billing_error")
    await set_quota(api, "monthly-tokens", NO_LIMIT)
    await set_quota(api, "requests-per-minute", 1)
    key = api.keys[Role.USER]
    async with AsyncAnthropic(base_url=api.url, api_key=key, max_retries=0) as client:
        answered = await client.messages.with_raw_response.create(**CHAT)  # type: ignore[call-overload]
        assert answered.headers["x-ratelimit-remaining-requests"] == "0"
    status, answer, _ = await ask(api, path="/v1/messages")
    assert (status, answer["error"]["type"]) == (429, "rate_limit_error")


async def test_setting_a_quota_is_in_the_audit_log(api: Api) -> None:
    await set_quota(api, "replicas", 3, "/v1/accounts/hearth")
    _, log = await call(api, "GET", "/v1/accounts/hearth/auditLogs")
    (entry,) = [entry for entry in log["auditLogs"] if entry["method"].endswith("UpdateQuota")]
    assert entry["resource"] == "accounts/hearth/quotas/replicas"
