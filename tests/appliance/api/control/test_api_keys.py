"""API keys through the real `fireworks` package, and under the account itself as older clients ask."""

import asyncio
import time
from datetime import UTC, datetime

import fireworks
import pytest
from fireworks import Fireworks

from appliance.domain import Role
from tests.appliance.api.conftest import Api
from tests.appliance.api.control.conftest import fireworks_client

OLD = "/v1/accounts/hearth/apiKeys"


async def test_a_key_is_shown_once_works_and_stops_working(api: Api, admin: Fireworks) -> None:
    def session() -> None:
        expires = datetime(2999, 1, 1, tzinfo=UTC)
        created = admin.api_keys.create("admin", api_key={"display_name": "ci", "expire_time": expires})
        assert created.key is not None
        assert created.key_id is not None
        assert created.key.startswith("fw_")
        assert created.prefix is not None
        assert created.key.startswith(created.prefix)
        assert (created.display_name, created.expire_time, created.secure) == ("ci", expires, True)

        with Fireworks(base_url=api.url, api_key=created.key, account_id="hearth", max_retries=0) as other:
            listed = {key.key_id: key for key in other.api_keys.list("admin", page_size=1) if key is not None}
            assert listed[created.key_id].display_name == "ci"
            assert all(key.key is None for key in listed.values())
            admin.api_keys.delete("admin", key_id=created.key_id)
            with pytest.raises(fireworks.AuthenticationError):
                list(other.api_keys.list("admin"))
        with pytest.raises(fireworks.NotFoundError):
            admin.api_keys.delete("admin", key_id=created.key_id)

    await asyncio.to_thread(session)


async def test_a_dash_stands_for_every_user(admin: Fireworks) -> None:
    keys = await asyncio.to_thread(lambda: list(admin.api_keys.list("-", page_size=2)))
    assert len(keys) == len(Role)
    assert len(await asyncio.to_thread(lambda: list(admin.api_keys.list(Role.USER.value)))) == 1


async def test_nobody_makes_a_key_for_an_other_user_but_an_administrator(api: Api, admin: Fireworks) -> None:
    def session() -> None:
        assert admin.api_keys.create("user", api_key={}).display_name == "default"
        with fireworks_client(api, Role.USER) as user, pytest.raises(fireworks.PermissionDeniedError):
            user.api_keys.create("admin", api_key={})

    await asyncio.to_thread(session)


async def test_the_older_paths_mean_the_callers_own_new_key_and_the_accounts_keys(api: Api) -> None:
    headers = api.bearer(Role.USER)
    async with api.session.post(OLD, json={"apiKey": {"displayName": "old"}}, headers=headers) as response:
        created = await response.json()
        assert response.status == 200
    async with api.session.get(f"{OLD}?pageSize=200", headers=headers) as response:
        listed = await response.json()
        assert (listed["totalSize"], listed["nextPageToken"]) == (len(Role) + 1, "")
        assert all("key" not in key for key in listed["apiKeys"])
    own = {"Authorization": f"Bearer {created['key']}"}
    async with api.session.get("/v1/accounts/hearth/users/user", headers=own) as response:
        assert (await response.json())["role"] == "user"
    async with api.session.post(f"{OLD}:delete", json={"keyId": created["keyId"]}, headers=headers) as response:
        assert (response.status, await response.json()) == (200, {})
    async with api.session.get(OLD, headers=own) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    ("properties", "param"),
    [
        ({"expireTime": "2001-01-01T00:00:00Z"}, "apiKey.expireTime"),
        ({"expireTime": "tomorrow"}, "apiKey.expireTime"),
        ({"expireTime": "2999-01-01T00:00:00"}, "apiKey.expireTime"),
        ({"displayName": "x" * 64}, "apiKey.displayName"),
        ({"annotations": ["team"]}, "apiKey.annotations"),
        ({"annotations": {"team": "x" * 20_000}}, "apiKey.annotations"),
    ],
)
async def test_a_field_at_fault_is_named(api: Api, properties: dict[str, object], param: str) -> None:
    async with api.session.post(OLD, json={"apiKey": properties}, headers=api.bearer()) as response:
        answer = await response.json()
        assert response.status == 400
        assert answer["details"][0]["fieldViolations"][0]["field"] == param


async def test_times_are_of_now_and_in_utc(api: Api) -> None:
    async with api.session.post(OLD, json={}, headers=api.bearer()) as response:
        answer = await response.json()
    assert answer["createTime"].endswith("Z")
    assert abs(datetime.fromisoformat(answer["createTime"]).timestamp() - time.time()) < 60
    assert "expireTime" not in answer


async def test_a_key_shows_whose_it_is_and_when_it_was_used(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    users = "/v1/accounts/hearth/users"
    body = {"role": "inference-user", "email": "ci@hearth.test", "serviceAccount": True}
    async with api.session.post(f"{users}?userId=ci", json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
    key = {"apiKey": {"displayName": "ci", "annotations": {"team": "search"}}}
    async with api.session.post(f"{users}/ci/apiKeys", json=key, headers=headers) as response:
        created = await response.json()
        assert response.status == 200, created
    bot = {"Authorization": f"Bearer {created['key']}"}
    url = f"{users}/ci/apiKeys/{created['keyId']}"
    async with api.session.get(url, headers=bot) as response:
        shown = await response.json()
    assert {name: value for name, value in created.items() if name != "key"} == shown
    assert shown["user"] == "accounts/hearth/users/ci"
    assert (shown["email"], shown["annotations"]) == ("ci@hearth.test", {"team": "search"})
    await api.services.identity.flush_used()
    async with api.session.get(f"{OLD}/{created['keyId']}?readMask=lastUsed", headers=headers) as response:
        shown = await response.json()
    assert abs(datetime.fromisoformat(shown["lastUsed"]).timestamp() - time.time()) < 60
    for missing in (f"{users}/admin/apiKeys/{created['keyId']}", f"{OLD}/nobody"):
        async with api.session.get(missing, headers=headers) as response:
            assert response.status == 404


async def test_every_role_manages_its_own_keys(api: Api) -> None:
    for role in Role:
        path = f"/v1/accounts/hearth/users/{role.value}/apiKeys"
        async with api.session.post(path, json={}, headers=api.bearer(role)) as response:
            created = await response.json()
            assert response.status == 200, created
        body = {"keyId": created["keyId"]}
        async with api.session.post(f"{path}:delete", json=body, headers=api.bearer(role)) as response:
            assert response.status == 200
