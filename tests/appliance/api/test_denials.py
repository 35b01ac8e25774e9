"""Which refusals reach the audit log, and that nothing of a key does."""

import asyncio
from typing import Any

import pytest

from appliance.domain import Role
from tests.appliance.api.conftest import FOREIGN_MODEL, Api

WRONG_KEY = "fw_" + "a" * 12 + "_" + "b" * 49


async def denials(api: Api) -> list[dict[str, Any]]:
    path, admin = "/v1/accounts/hearth/auditLogs?orderBy=timestamp", api.bearer(Role.ADMIN)
    async with api.session.get(path, headers=admin) as response:
        assert response.status == 200
        entries: list[dict[str, Any]] = (await response.json())["auditLogs"]
    return [entry for entry in entries if entry["status"]["code"] != "OK"]


async def send(api: Api, method: str, path: str, headers: dict[str, str], **rest: Any) -> int:
    async with api.session.request(method, path, headers=headers, **rest) as response:
        return response.status


@pytest.mark.parametrize("header", [f"Bearer {WRONG_KEY}", WRONG_KEY, "Basic dXNlcjpwYXNz", "Bearer "])
async def test_a_refused_key_is_told_by_its_address_alone(api: Api, header: str) -> None:
    assert await send(api, "GET", "/v1/accounts/hearth/models", {"Authorization": header}) == 401
    (entry,) = await denials(api)
    assert (entry["method"], entry["status"]["code"]) == ("ListModels", "UNAUTHENTICATED")
    assert (entry["principal"], entry["apiKeyId"], entry["clientIp"]) == ("", "", "127.0.0.1")
    assert entry["resource"] == "accounts/hearth/models"
    assert WRONG_KEY not in str(entry)


async def test_missing_permission_is_told_with_who_and_what(api: Api) -> None:
    headers = api.bearer(Role.INFERENCE_USER)
    assert await send(api, "DELETE", "/v1/accounts/hearth/deployments/asleep-deployment", headers) == 403
    (entry,) = await denials(api)
    assert (entry["principal"], entry["method"]) == ("inference-user", "DeleteDeployment")
    assert entry["resource"] == "accounts/hearth/deployments/asleep-deployment"
    assert entry["status"]["code"] == "PERMISSION_DENIED"


async def test_other_accounts_resources_are_told_and_ones_own_missing_ones_are_not(api: Api) -> None:
    foreign = FOREIGN_MODEL.removeprefix("accounts/")
    assert await send(api, "GET", f"/v1/accounts/{foreign}", api.bearer()) == 404
    assert await send(api, "GET", "/v1/accounts/hearth/models/missing", api.bearer()) == 404
    assert await send(api, "GET", "/v1/accounts/fireworks/models/missing", api.bearer()) == 404
    assert await send(api, "GET", "/nothing/here", api.bearer()) == 404
    (entry,) = await denials(api)
    assert (entry["resource"], entry["status"]["code"]) == (FOREIGN_MODEL, "NOT_FOUND")


async def test_what_has_not_the_form_of_an_id_is_not_repeated(api: Api) -> None:
    assert await send(api, "GET", f"/v1/accounts/other/models/{WRONG_KEY}", api.bearer()) == 404
    assert await send(api, "PUT", f"/v1/uploads/{WRONG_KEY}/file.bin", {}, data=b"") == 403
    first, second = await denials(api)
    assert first["resource"] == "accounts/other/models/?"
    assert second["resource"] == "uploads/?/?"


async def test_refused_inference_is_told_and_served_inference_is_not(api: Api) -> None:
    body = {"model": "accounts/fireworks/models/tiny", "messages": [{"role": "user", "content": "Hello"}]}
    path = "/inference/v1/chat/completions"
    assert await send(api, "POST", path, api.bearer(), json=body) == 200
    assert await send(api, "POST", path, {"X-Api-Key": WRONG_KEY}, json=body) == 401
    (entry,) = await denials(api)
    assert (entry["method"], entry["resource"]) == ("CreateChatCompletion", "chat/completions")


async def test_a_flood_makes_two_rows_a_minute(api: Api) -> None:
    for _ in range(10):
        await asyncio.gather(
            *(send(api, "GET", f"/v1/accounts/other/models/m{number}", api.bearer()) for number in range(20))
        )
    (first,) = await denials(api)
    assert first["payload"]["count"] <= 200
    await api.services.audit_logs.denials.close()
    entries = await denials(api)
    assert sum(entry["payload"]["count"] for entry in entries) == 200
    assert len(entries) <= 2
    assert entries[-1]["message"].endswith("times")
