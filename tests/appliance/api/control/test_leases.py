"""Leases over the wire; how one lives is the services' test."""

from typing import Any

import pytest

from appliance.config import GIB
from appliance.domain import Role
from tests.appliance.api.conftest import Api


async def post(api: Api, path: str, body: object, role: Role = Role.USER) -> tuple[int, Any]:
    async with api.session.post(path, json=body, headers=api.bearer(role)) as response:
        return response.status, await response.json()


async def test_a_lease_is_taken_renewed_and_given_back(api: Api) -> None:
    await api.services.node.supervisor.start()
    try:
        body = {"memoryBytes": 20 * GIB, "duration": "1h30m", "command": "python", "waitTimeout": "60s"}
        status, lease = await post(api, "/v1/node/leases", body)
        assert (status, lease["deviceIds"], lease["visibleDevices"]) == (200, ["simulated-0"], "")
        path = f"/v1/node/leases/{lease['id']}"
        assert await post(api, f"{path}:renew", {}) == (200, lease)
        assert api.services.node.supervisor.ledger.by_owner("simulated-0")[f"leases/{lease['id']}"] == 20 * GIB
        for expected in (200, 404):
            async with api.session.delete(path, headers=api.bearer()) as response:
                assert response.status == expected
        assert f"leases/{lease['id']}" not in api.services.node.supervisor.ledger.by_owner("simulated-0")
    finally:
        await api.services.node.supervisor.close(drain_s=0.0)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"memoryBytes": 0}, "memoryBytes"),
        ({"memoryBytes": "much"}, "memoryBytes"),
        ({"duration": "soon"}, "duration"),
        ({"waitTimeout": "-1s"}, "waitTimeout"),
        ({"acceleratorCount": -1}, "acceleratorCount"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(api: Api, changes: dict[str, object], param: str) -> None:
    status, answer = await post(api, "/v1/node/leases", {"memoryBytes": GIB, "duration": "1h"} | changes)
    assert (status, param in str(answer)) == (400, True), answer


async def test_borrowing_needs_write_access(api: Api) -> None:
    status, _ = await post(api, "/v1/node/leases", {"memoryBytes": GIB, "duration": "1h"}, Role.INFERENCE_USER)
    assert status == 403
