"""The audit log over the wire; in which order and span rows are found is the services' test."""

from collections.abc import Mapping
from typing import Any

import pytest

from appliance.api.control import audit_logs as control
from appliance.domain import Role
from appliance.services import audit
from tests.appliance.api.conftest import Api

LOGS = "/v1/accounts/hearth/auditLogs"


async def get(api: Api, query: Mapping[str, str] = {}, path: str = LOGS, role: Role = Role.ADMIN) -> tuple[int, Any]:
    async with api.session.get(path, params=dict(query), headers=api.bearer(role)) as response:
        return response.status, await response.json()


async def make_deployments(api: Api, *ids: str, role: Role = Role.USER) -> None:
    for id in ids:
        body = {"baseModel": "accounts/fireworks/models/tiny", "displayName": "Blue"}
        path = f"/v1/accounts/hearth/deployments?deploymentId={id}"
        headers = {**api.bearer(role), "User-Agent": "test/1.0"}
        async with api.session.post(path, json=body, headers=headers) as response:
            assert response.status == 200, await response.text()


def ids(answer: Any) -> list[str]:
    return [entry["resource"].rpartition("/")[2] for entry in answer["auditLogs"]]


async def test_an_entry_tells_who_did_what_to_which_resource(api: Api) -> None:
    await make_deployments(api, "blue")
    status, answer = await get(api)
    assert (status, answer["totalSize"], answer["nextPageToken"]) == (200, 1, "")
    (entry,) = answer["auditLogs"]
    assert entry.pop("timestamp").endswith("Z")
    assert entry.pop("apiKeyId")
    assert len(entry["payload"].pop("requestId")) == 24
    assert entry == {
        "id": "1",
        "principal": "user",
        "method": "CreateDeployment",
        "message": "CreateDeployment",
        "resource": "accounts/hearth/deployments/blue",
        "status": {"code": "OK", "message": ""},
        "payload": {"fields": ["baseModel", "displayName"], "count": 1},
        "isAdminAction": False,
        "clientIp": "127.0.0.1",
        "userAgent": "test/1.0",
    }


async def test_pages_are_newest_first_and_go_on_where_they_ended(api: Api) -> None:
    await make_deployments(api, *(f"d{number}" for number in range(7)))
    seen: list[str] = []
    token = ""
    while True:
        status, answer = await get(api, {"pageSize": "3", "pageToken": token})
        assert (status, answer["totalSize"]) == (200, 7)
        seen += ids(answer)
        token = answer["nextPageToken"]
        if not token:
            break
    assert seen == [f"d{number}" for number in reversed(range(7))]
    status, answer = await get(api, {"orderBy": "timestamp"})
    assert ids(answer) == [f"d{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resource=accounts/hearth/deployments/blue", ["blue", "blue"]),
        ("resource:green", ["green"]),
        ("message:Delete", ["blue"]),
        ("method=CreateDeployment AND isAdminAction=true", ["green"]),
        ('principal="admin"', ["blue", "green"]),
        ("payload.fields:displayName", ["green", "blue"]),
        ("status.code!=OK", []),
    ],
)
async def test_filters(api: Api, text: str, expected: list[str]) -> None:
    await make_deployments(api, "blue")
    await make_deployments(api, "green", role=Role.ADMIN)
    path = "/v1/accounts/hearth/deployments/blue?ignoreChecks=true"
    async with api.session.delete(path, headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 200
    status, answer = await get(api, {"filter": text})
    assert (status, ids(answer)) == (200, expected)


async def test_a_filter_that_matches_little_reads_on_and_has_a_limit(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_deployments(api, *(f"d{number}" for number in range(6)))
    monkeypatch.setattr(control, "LOOKED_AT_MAX", 4)
    query = {"filter": "resource:d5 OR resource:d1"}
    status, answer = await get(api, query)
    assert (status, ids(answer)) == (200, ["d5"])
    status, answer = await get(api, {**query, "pageToken": answer["nextPageToken"]})
    assert (status, ids(answer), answer["nextPageToken"]) == (200, ["d1"], "")
    status, answer = await get(api, {"filter": "resource:d0"})
    assert status == 400
    assert "startTime and endTime" in answer["message"]


async def test_a_user_and_a_span(api: Api) -> None:
    await make_deployments(api, "blue")
    await make_deployments(api, "green", role=Role.ADMIN)
    assert ids((await get(api, {"email": "admin"}))[1]) == ["green"]
    assert ids((await get(api, {"startTime": "2100-01-01T00:00:00Z"}))[1]) == []
    assert ids((await get(api, {"endTime": "2100-01-01T00:00:00Z"}))[1]) == [], "thirty days before that"
    assert ids((await get(api, {"startTime": "2001-01-01T00:00:00Z"}))[1]) == ["green", "blue"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("startTime", "yesterday"),
        ("endTime", "2001-01-01"),
        ("orderBy", "resource"),
        ("pageSize", "many"),
        ("pageToken", "x"),
        ("filter", "nothing=1"),
        ("readMask", "nothing"),
    ],
)
async def test_what_cannot_be_read_is_refused_by_name(api: Api, name: str, value: str) -> None:
    status, answer = await get(api, {name: value})
    assert (status, name in answer["message"]) == (400, True), answer


async def test_it_is_for_administrators_of_the_account(api: Api) -> None:
    assert (await get(api, role=Role.USER))[0] == 403
    assert (await get(api, path="/v1/accounts/other/auditLogs"))[0] == 404
    status, answer = await get(api, path="/v1/accounts/fireworks/auditLogs")
    assert (status, answer["auditLogs"]) == (200, []), "who keeps the box keeps the library"


async def test_what_the_appliance_did_by_itself_has_its_name(api: Api) -> None:
    async with api.services.node.database.transaction() as tx:
        await audit.record_own_act(tx, "DeleteDeployment", "accounts/hearth/deployments/d", "unused for 604800 s")
    (entry,) = (await get(api))[1]["auditLogs"]
    assert (entry["principal"], entry["message"]) == ("hearth", "DeleteDeployment: unused for 604800 s")
