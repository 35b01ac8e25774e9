"""Filters, orders, masks and tokens over HTTP, as clients write them: right rows, or a 400 naming the parameter."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.api.app import ROUTES
from appliance.api.routing import Permission, Route
from appliance.domain import Role
from appliance.store import models
from appliance.store.database import Database
from tests.appliance.api.conftest import ASLEEP_MODEL, Api

MODELS = "/v1/accounts/hearth/models"
PARAMETERS = ("filter", "orderBy", "readMask", "pageToken", "pageSize")
FILTERS = {
    'state="READY"': "asleep blue green undeployed",
    "state=READY AND supportsTools=false": "asleep blue green undeployed",
    'displayName="Blue \\"1\\""': "blue",
    "display_name='Green'": "green",
    "displayName:blue": "blue",
    'displayName="B*"': "blue",
    'displayName="*n"': "green",
    "displayName:*": "blue green",
    "NOT displayName:*": "asleep undeployed",
    "-displayName:*": "asleep undeployed",
    "displayName:blue OR displayName:green": "blue green",
    "contextLength>=512 displayName:green": "green",
    "context_length>512": "",
    "contextLength>-1 displayName:*": "blue green",
    'createTime<"2001-01-01T00:00:00Z"': "blue",
    'createTime="2000-01-01T01:00:00+01:00"': "blue",
    "baseModelDetails.parameterCount<2000 displayName:*": "blue green",
    "base_model_details.model_type=llama displayName:*": "blue green",
    "name:asleep": "asleep",
    f"name={ASLEEP_MODEL}": "asleep",
    "public=true": "green",
    "NOT (public=true OR displayName:blue)": "asleep undeployed",
    "defaultSamplingParams:temperature displayName:*": "blue green",
    "defaultSamplingParams.temperature<0.7 displayName:*": "blue green",
}
LISTS = [route for route in ROUTES if route.plural is not None and route.method == "GET"]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.text("()\"'*:=<>-. ANDORTname\\", max_size=40)


async def ask(api: Api, path: str, query: dict[str, str]) -> tuple[int, Any]:
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    async with api.session.get(f"{path}?{text}", headers=api.bearer(Role.ADMIN)) as response:
        return response.status, await response.json()


async def add_named(database: Database) -> None:
    async with database.transaction() as tx:
        model = await models.get(tx.connection, "hearth", "asleep")
        assert model is not None
        blue = replace(model, id="blue", display_name='Blue "1"', directory="b", created_at=946684800.0)
        await models.insert(tx, blue)
        await models.insert(tx, replace(model, id="green", display_name="Green", directory="g", is_public=True))


async def test_filters_find_their_rows(api: Api, database: Database) -> None:
    await add_named(database)
    for text, expected in FILTERS.items():
        status, answer = await ask(api, MODELS, {"filter": text})
        found = " ".join(model["name"].rpartition("/")[2] for model in answer.get("models", []))
        assert (status, found) == (200, expected), (text, answer)


@pytest.mark.parametrize("route", LISTS, ids=lambda route: route.path)
async def test_every_list_refuses_by_name_what_it_cannot_read(api: Api, route: Route) -> None:
    path = re.sub(r"\{account_id\}", "hearth", route.path)
    path = re.sub(r"\{[^}]*\}", "admin" if "/users/" in path else "something", path)
    required = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-02T00:00:00Z"}
    if (await ask(api, path, required))[0] != 200:
        return  # of what is not there
    for name in PARAMETERS:
        status, answer = await ask(api, path, {**required, name: "no,,thing"})
        assert status == 400, (name, answer)
        assert answer["message"].startswith(f"{name}: ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(query=st.dictionaries(st.sampled_from(PARAMETERS), TEXTS, min_size=1))
async def test_whatever_is_asked_for_has_an_answer(api: Api, query: dict[str, str]) -> None:
    status, answer = await ask(api, MODELS, query)
    assert status in (200, 400)
    if status == 400:
        assert answer["message"].split(":")[0] in PARAMETERS


def test_lists_need_a_key() -> None:
    assert all(route.permission not in (Permission.PUBLIC, Permission.SIGNED_URL) for route in LISTS)


async def test_a_long_list_is_read_page_by_page_in_any_order(api: Api, database: Database) -> None:
    async with database.transaction() as tx:
        model = await models.get(tx.connection, "hearth", "asleep")
        assert model is not None
        for number in range(60):
            await models.insert(tx, replace(model, id=f"boat-{number:02}", directory=f"b{number}"))
    for order in ({}, {"orderBy": "name"}, {"orderBy": "name desc"}):
        names: list[str] = []
        query = {"pageSize": "7", **order}
        while query.get("pageToken", "first"):
            status, answer = await ask(api, MODELS, query)
            assert (status, answer["totalSize"]) == (200, 62)
            names += [each["name"] for each in answer["models"]]
            query["pageToken"] = answer["nextPageToken"]
        assert len(set(names)) == 62
        assert names == sorted(names, reverse="desc" in order.get("orderBy", ""))


async def test_a_plain_list_refuses_what_others_refuse(api: Api) -> None:
    for query in ({"readMask": "no.thing"}, {"pageToken": "x"}, {"pageSize": "x"}):
        assert (await ask(api, "/v1/accounts/fireworks/models", query))[0] == 400
    assert (await ask(api, "/v1/accounts/other/models", {}))[0] == 404
