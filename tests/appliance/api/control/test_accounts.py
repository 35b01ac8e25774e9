import asyncio

import fireworks
import pytest
from fireworks import Fireworks

from appliance.domain import Role
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.control.conftest import fireworks_client


async def test_a_caller_sees_its_own_account_and_an_administrator_of_the_box_all(api: Api, admin: Fireworks) -> None:
    def session() -> None:
        found = {account.name: account for account in admin.accounts.list(page_size=1) if account is not None}
        assert set(found) == {"accounts/hearth", "accounts/fireworks", "accounts/other"}
        own = found["accounts/hearth"]
        assert (own.state, own.suspend_state) == ("READY", "UNSUSPENDED")
        assert admin.accounts.get(account_id="other").name == "accounts/other"
        with fireworks_client(api, Role.USER) as user:
            assert [account.name for account in user.accounts.list() if account is not None] == ["accounts/hearth"]
            assert user.accounts.get(account_id="hearth").create_time == own.create_time
            with pytest.raises(fireworks.NotFoundError):
                user.accounts.get(account_id="other")
        with pytest.raises(fireworks.NotFoundError):
            admin.accounts.get(account_id="nobody")

    await asyncio.to_thread(session)


async def test_a_new_account_comes_with_the_key_of_its_administrator(api: Api) -> None:
    body = {"accountId": "initech", "account": {"displayName": "Initech", "email": "it@initech.test"}}
    async with api.session.post("/v1/accounts", json=body, headers=api.bearer(Role.ADMIN)) as response:
        created = await response.json()
        assert response.status == 200, created
    assert (created["name"], created["displayName"]) == ("accounts/initech", "Initech")
    key = {"Authorization": f"Bearer {created['apiKey']['key']}"}
    async with api.session.get("/v1/accounts/initech/users", headers=key) as response:
        users = (await response.json())["users"]
        assert [(user["name"], user["role"]) for user in users] == [("accounts/initech/users/admin", "admin")]
    async with api.session.get("/v1/accounts/initech/users", headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 404
    async with api.session.post("/v1/accounts", json=body, headers=key) as response:
        assert response.status == 403


async def test_an_account_is_renamed_as_far_as_the_mask_says(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    body = {"displayName": "Our box", "email": "it@hearth.test", "state": "DELETING", "name": "accounts/x"}
    async with api.session.patch("/v1/accounts/hearth?updateMask=display_name", json=body, headers=headers) as response:
        changed = await response.json()
        assert (response.status, changed["displayName"], changed["email"]) == (200, "Our box", "")
    async with api.session.patch("/v1/accounts/hearth", json={"email": "box"}, headers=headers) as response:
        answer = await response.json()
        assert answer["details"][0]["fieldViolations"][0]["field"] == "email"
    async with api.session.patch("/v1/accounts/hearth", json={}, headers=api.bearer(Role.USER)) as response:
        assert response.status == 403


async def test_a_suspended_account_may_read_and_nothing_else_until_the_suspension_ends(api: Api) -> None:
    admin = api.bearer(Role.ADMIN)
    async with api.session.post("/v1/accounts", json={"accountId": "initech"}, headers=admin) as response:
        member = {"Authorization": f"Bearer {(await response.json())['apiKey']['key']}"}
    chat = {"model": READY_MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    cases: list[tuple[str, str, object, int]] = [
        ("GET", "/v1/accounts/initech/users", None, 200),
        ("GET", "/v1/accounts/initech/apiKeys", None, 200),
        ("GET", "/verifyApiKey", None, 200),
        ("POST", "/v1/accounts/initech/apiKeys", {}, 400),
        ("POST", "/v1/accounts/initech/users?userId=bob", {"role": "user"}, 400),
        ("POST", "/inference/v1/chat/completions", chat, 412),
    ]
    url = "/v1/accounts/initech:suspend"
    async with api.session.post(url, json={"reason": "FAILED_PAYMENTS"}, headers=admin) as response:
        assert (await response.json())["suspendState"] == "FAILED_PAYMENTS"
    for method, path, body, status in cases:
        async with api.session.request(method, path, json=body, headers=member) as response:
            answer = await response.text()
            assert response.status == status, (path, answer)
            assert status == 200 or "FAILED_PAYMENTS" in answer
    async with api.session.post("/v1/accounts/initech:unsuspend", headers=admin) as response:
        assert (await response.json())["suspendState"] == "UNSUSPENDED"
    async with api.session.post("/v1/accounts/initech/apiKeys", json={}, headers=member) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/accounts/other:suspend", {"reason": "UNSUSPENDED"}, 400),
        ("/v1/accounts/other:suspend", {"reason": "BAD_MOOD"}, 400),
        ("/v1/accounts/hearth:suspend", {}, 400),
        ("/v1/accounts/nobody:suspend", {}, 404),
        ("/v1/accounts", {}, 400),
        ("/v1/accounts", {"accountId": "Other"}, 400),
        ("/v1/accounts", {"accountId": "other"}, 409),
        ("/v1/accounts", {"accountId": "new", "account": {"accountType": "ENTERPRISE"}}, 400),
    ],
)
async def test_what_cannot_be_done_with_accounts_is_refused(
    api: Api, path: str, body: dict[str, object], status: int
) -> None:
    async with api.session.post(path, json=body, headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == status, await response.text()


PAGING = ("nextPageToken", "totalSize")


async def test_every_list_and_resource_takes_filter_order_and_mask(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    for url, shown in [
        ("/v1/accounts?filter=name:%22accounts/hearth%22&readMask=name", {"accounts": [{"name": "accounts/hearth"}]}),
        ("/v1/accounts/hearth?readMask=name", {"name": "accounts/hearth"}),
        ("/v1/accounts/hearth/users/admin?readMask=role", {"role": "admin"}),
        ("/v1/accounts/hearth/models?filter=-name:asleep+-name:undeployed&readMask=name", {"models": []}),
        ("/v1/accounts/hearth/models/asleep?readMask=state", {"state": "READY"}),
        ("/v1/accounts/hearth/deployments?filter=baseModel:nothing&orderBy=createTime+desc", {"deployments": []}),
        ("/v1/accounts/hearth/deployments/asleep-deployment?readMask=region", {"region": "LOCAL"}),
        ("/v1/accounts/hearth/users/-/apiKeys?filter=keyId=nobody&orderBy=displayName", {"apiKeys": []}),
    ]:
        async with api.session.get(url, headers=headers) as response:
            answer = await response.json()
            assert response.status == 200, answer
            assert {name: value for name, value in answer.items() if name not in PAGING} == shown, url
    async with api.session.get("/v1/accounts/hearth/models?filter=sails=3", headers=headers) as response:
        assert (response.status, (await response.json())["message"][:7]) == (400, "filter:")
