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


async def test_parameters_of_later_versions_are_refused_by_name(api: Api) -> None:
    headers = api.bearer(Role.ADMIN)
    for url, name in [
        ("/v1/accounts?filter=x", "filter"),
        ("/v1/accounts/hearth?readMask=name", "readMask"),
        ("/v1/accounts/hearth/users/admin?readMask=name", "readMask"),
        ("/v1/accounts/hearth/models?orderBy=name", "orderBy"),
        ("/v1/accounts/hearth/deployments?orderBy=state", "orderBy"),
        ("/v1/accounts/hearth/models/asleep?readMask=name", "readMask"),
        ("/v1/accounts/hearth/deployments/asleep-deployment?readMask=name", "readMask"),
        ("/v1/accounts/hearth/users/-/apiKeys?orderBy=keyId", "orderBy"),
    ]:
        async with api.session.get(url, headers=headers) as response:
            answer = await response.json()
            assert (response.status, answer["message"].split(":")[0]) == (400, name)
    async with api.session.get("/v1/accounts/hearth?readMask=*", headers=headers) as response:
        assert response.status == 200
