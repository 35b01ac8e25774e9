"""Users through the real `fireworks` package, and what it has no method for over plain HTTP."""

import asyncio

import fireworks
import pytest
from fireworks import Fireworks

from appliance.domain import Role
from tests.appliance.api.conftest import Api

USERS = "/v1/accounts/hearth/users"


async def test_users_are_got_by_id(admin: Fireworks) -> None:
    user = await asyncio.to_thread(admin.users.get, "contributor")
    assert (user.name, user.role) == ("accounts/hearth/users/contributor", "contributor")
    with pytest.raises(fireworks.NotFoundError):
        await asyncio.to_thread(admin.users.get, "nobody")


async def test_a_user_is_created_changed_and_listed(admin: Fireworks) -> None:
    def session() -> None:
        created = admin.users.create(role="user", user_id="ada", display_name="Ada", email="ada@hearth.test")
        assert (created.name, created.role, created.state) == ("accounts/hearth/users/ada", "user", "READY")
        assert (created.service_account, created.email) == (False, "ada@hearth.test")
        changed = admin.users.update("ada", role="contributor", display_name="Ada L.")
        assert (changed.role, changed.display_name, changed.email) == ("contributor", "Ada L.", "ada@hearth.test")
        listed = [user.name for user in admin.users.list(filter='role="contributor"', page_size=1) if user is not None]
        assert listed == ["accounts/hearth/users/ada", "accounts/hearth/users/contributor"]
        made_up = admin.users.create(role="user", email="grace@hearth.test")
        assert made_up.name == "accounts/hearth/users/grace"

    await asyncio.to_thread(session)


async def test_a_new_role_counts_for_a_key_that_was_in_use(api: Api) -> None:
    models = "/v1/accounts/hearth/deployments?deploymentId=x&validateOnly=true"
    for role, status in (("inference-user", 403), ("user", 400)):
        headers = api.bearer(Role.ADMIN)
        async with api.session.patch(f"{USERS}/contributor", json={"role": role}, headers=headers) as response:
            assert response.status == 200
        async with api.session.post(models, json={}, headers=api.bearer(Role.CONTRIBUTOR)) as response:
            assert response.status == status, await response.text()


async def test_a_deleted_user_is_gone_with_its_keys(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    async with api.session.get("/verifyApiKey", headers=api.bearer(Role.USER)) as response:
        assert response.status == 200
    async with api.session.delete(f"{USERS}/accounts%2Fhearth%2Fusers%2Fuser", headers=headers) as response:
        assert (response.status, await response.json()) == (200, {})
    async with api.session.get("/verifyApiKey", headers=api.bearer(Role.USER)) as response:
        assert response.status == 401
    async with api.session.get(f"{USERS}/-/apiKeys", headers=headers) as response:
        assert (await response.json())["totalSize"] == len(Role) - 1


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("", {"role": "user"}, "userId"),
        ("?userId=x", {}, "role"),
        ("?userId=x", {"role": "king"}, "role"),
        ("?userId=X", {"role": "user"}, "userId"),
        ("?userId=x", {"role": "user", "email": "x"}, "email"),
        ("?userId=x", {"role": "user", "permissionPreset": "all"}, "permissionPreset"),
        ("?userId=x", {"role": "user", "serviceAccount": "yes"}, "serviceAccount"),
    ],
)
async def test_a_field_at_fault_is_named(api: Api, path: str, body: dict[str, object], field: str) -> None:
    async with api.session.post(f"{USERS}{path}", json=body, headers=api.bearer(Role.ADMIN)) as response:
        answer = await response.json()
        assert response.status == 400, answer
        assert answer["details"][0]["fieldViolations"][0]["field"] == field


async def test_the_last_administrator_stays_and_is_told_why(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    for method, body in (("PATCH", {"role": "user"}), ("DELETE", None)):
        async with api.session.request(method, f"{USERS}/admin", json=body, headers=headers) as response:
            answer = await response.json()
            assert (response.status, answer["code"]) == (400, 9)
            assert "last administrator" in answer["message"]


async def test_nobody_but_an_administrator_changes_users(api: Api) -> None:
    for role in set(Role) - {Role.ADMIN}:
        for method, path, body in (
            ("POST", f"{USERS}?userId=x", {"role": "admin"}),
            ("PATCH", f"{USERS}/{role.value}", {"role": "admin"}),
            ("DELETE", f"{USERS}/admin", None),
        ):
            async with api.session.request(method, path, json=body, headers=api.bearer(role)) as response:
                assert response.status == 403
