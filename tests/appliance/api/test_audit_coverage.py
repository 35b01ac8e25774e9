"""Every request that changes something leaves its row in the audit log. Driven by the route table: a new route that
changes something and has no sample fails by its name."""

from collections.abc import AsyncIterator

import aiosqlite
import pytest

from appliance.api.app import ROUTES
from appliance.api.routing import Permission, Route
from appliance.domain import Role
from tests.appliance.api.conftest import Api
from tests.appliance.api.route_samples import has_sample, key_of, make_objects, send
from tests.appliance.api.sample_objects import Owner

A = "/v1/accounts/{account_id}"
CHANGE_NOTHING = {
    f"POST {A}/models/{{model_id}}:prepare": "what can be deployed already needs no preparation",
    f"POST {A}/deploymentShapeVersions:match": "a question",
    "POST /v1/node/leases/{lease_id}:renew": "the holder of a lease is alive",
    "PUT /v1/uploads/{token}/{filename:.+}": "the row was written when the URL was given out",
}
GETS_THAT_CHANGE = {
    f"GET {A}/models/{{model_id}}:getDownloadEndpoint",
    f"GET {A}/datasets/{{dataset_id}}:getDownloadEndpoint",
}
"""Handing out download URLs is access to data."""
KEEPER = Owner("hearth", Role.ADMIN.value)

CHANGING = [
    route
    for route in ROUTES
    if (route.method not in ("GET", "HEAD") or key_of(route) in GETS_THAT_CHANGE)
    and route.permission is not Permission.INFER
    and key_of(route) not in CHANGE_NOTHING
]


@pytest.fixture
async def box(api: Api) -> AsyncIterator[Api]:
    """With a supervisor, who lends memory."""
    await api.services.node.supervisor.start()
    yield api
    await api.services.node.supervisor.close(drain_s=0.0)


OTHERS = {f"POST {A}:suspend": "other", f"POST {A}:unsuspend": "other"}
"""Routes for who keeps the box, done to another account."""


def test_every_changing_route_has_a_sample() -> None:
    assert [key_of(route) for route in CHANGING if not has_sample(route)] == []


async def test_every_change_writes_its_row_and_nothing_else_does(box: Api) -> None:
    problems = {}
    for route in CHANGING:
        if not has_sample(route):
            continue
        before = await rows(box)
        status = await do(box, route)
        new = (await rows(box))[len(before) :]
        if status != 200:
            problems[key_of(route)] = f"the sample ends with {status}"
        elif {row["method"] for row in new if row["user_id"]} != {route.rpc_name}:
            problems[key_of(route)] = f"rows: {[row['method'] for row in new]}"
    assert problems == {}


async def test_what_only_reads_writes_no_row(box: Api) -> None:
    problems = {}
    for route in ROUTES:
        if route.permission is Permission.READ and route.method == "GET" and route not in CHANGING:
            before = len(await rows(box))
            if has_sample(route):
                await do(box, route)
            if len(await rows(box)) != before:
                problems[key_of(route)] = [row["method"] for row in (await rows(box))[before:]]
    assert problems == {}


async def do(api: Api, route: Route) -> int:
    owner = KEEPER._replace(account_id=OTHERS.get(key_of(route), KEEPER.account_id))
    ids = await make_objects(api, route, owner)
    return await send(api, route, ids, api.bearer(Role.ADMIN))


async def rows(api: Api) -> list[aiosqlite.Row]:
    async with api.services.node.database.reader() as db:
        return list(await db.execute_fetchall("SELECT method, user_id FROM audit_logs ORDER BY seq"))
