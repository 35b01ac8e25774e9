import asyncio

import fireworks
import pytest
from fireworks import Fireworks

from appliance.domain import Role
from tests.appliance.api.conftest import Api


async def test_a_caller_sees_its_own_account(admin: Fireworks) -> None:
    def session() -> None:
        (account,) = admin.accounts.list()
        assert account is not None
        assert (account.name, account.state) == ("accounts/hearth", "READY")
        assert admin.accounts.get(account_id="hearth").create_time == account.create_time
        with pytest.raises(fireworks.NotFoundError):
            admin.accounts.get(account_id="other")

    await asyncio.to_thread(session)


async def test_users_are_got_by_id(admin: Fireworks) -> None:
    user = await asyncio.to_thread(admin.users.get, "contributor")
    assert (user.name, user.role) == ("accounts/hearth/users/contributor", "contributor")
    with pytest.raises(fireworks.NotFoundError):
        await asyncio.to_thread(admin.users.get, "nobody")


PAGING = ("nextPageToken", "totalSize")


async def test_every_list_and_resource_takes_filter_order_and_mask(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    for url, shown in [
        ("/v1/accounts?filter=name:hearth&readMask=name", {"accounts": [{"name": "accounts/hearth"}]}),
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
