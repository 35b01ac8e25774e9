"""The machine at work, as far as the one who asks may see it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from appliance.config import GIB
from appliance.domain import Deployment, Role
from appliance.orchestrator.views import ReplicaView
from appliance.store import deployments
from tests.appliance.api.conftest import Api
from tests.appliance.orchestrator.samples import sample_deployment
from tests.waiting import until


async def get(api: Api, path: str, role: Role) -> Any:
    async with api.session.get(path, headers=api.bearer(role)) as response:
        assert response.status == 200, await response.text()
        return await response.json()


@asynccontextmanager
async def looked_after(api: Api) -> AsyncIterator[None]:
    """The supervisor has seen every deployment, and starts nothing."""
    supervisor = api.services.node.supervisor
    async with api.services.node.database.transaction() as tx:
        foreign = sample_deployment(account_id="other", id="foreign", desired_replica_count=0)
        await deployments.insert(tx, foreign)
        for deployment in await deployments.list_active(tx.connection):
            await deployments.update(tx, replace(deployment, desired_replica_count=0))
    await supervisor.start()
    try:
        await until(lambda: supervisor.deployments_of("other"))
        yield
    finally:
        await supervisor.close(drain_s=0.0)


async def test_devices_are_shown_with_who_holds_them(api: Api) -> None:
    ledger = api.services.node.supervisor.ledger
    ledger.reserve("accounts/hearth/deployments/own/replicas/0", ["simulated-0"], 20 * GIB)
    ledger.reserve("accounts/other/deployments/a/replicas/0", ["simulated-0"], 5 * GIB)
    ledger.reserve("accounts/other/deployments/b/replicas/0", ["simulated-0"], 5 * GIB)
    own = {"owner": "accounts/hearth/deployments/own/replicas/0", "memoryBytes": 20 * GIB}
    (device,) = (await get(api, "/v1/node/fleet", Role.INFERENCE_USER))["devices"]
    assert (device["id"], device["memoryBytes"], device["freeBytes"]) == ("simulated-0", 80 * GIB, 50 * GIB)
    assert device["holders"] == [own, {"owner": "other accounts", "memoryBytes": 10 * GIB}]
    (device,) = (await get(api, "/v1/node/fleet", Role.ADMIN))["devices"]
    assert {holder["owner"] for holder in device["holders"]} >= {"accounts/other/deployments/a/replicas/0"}


async def test_deployments_of_others_are_for_the_admins_of_the_machine(api: Api) -> None:
    async with looked_after(api):
        for role, is_seen in ((Role.USER, False), (Role.ADMIN, True)):
            shown = await get(api, "/v1/node/fleet", role)
            names = [deployment["name"] for deployment in shown["deployments"]]
            assert "accounts/fireworks/deployments/tiny-deployment" in names
            assert ("accounts/other/deployments/foreign" in names) is is_seen


async def test_replicas_of_the_library_are_for_those_who_look_after_it(api: Api) -> None:
    name = "accounts/fireworks/deployments/tiny-deployment"
    await api.services.node.supervisor.start()
    try:
        await until(lambda: any(deployment.name == name for deployment, _ in replicas_of(api)))
        for role, is_seen in ((Role.USER, False), (Role.ADMIN, True)):
            shown = (await get(api, "/v1/node/fleet", role))["replicas"]
            assert any(replica["name"].startswith(name) for replica in shown) is is_seen
    finally:
        await api.services.node.supervisor.close(drain_s=0.0)


def replicas_of(api: Api) -> list[tuple[Deployment, ReplicaView]]:
    return list(api.services.node.supervisor.all_replicas())


async def test_a_deployment_that_lacks_nothing_is_explained_so(api: Api) -> None:
    path = "/v1/accounts/fireworks/deployments/tiny-deployment:explain"
    explained = await get(api, path, Role.USER)
    assert (explained["deployment"], "neededBytes" in explained) == (
        "accounts/fireworks/deployments/tiny-deployment",
        False,
    )
    async with api.session.get(path.replace("tiny", "no"), headers=api.bearer()) as response:
        assert response.status == 404
