"""Addons in real fake workers: each loaded where it is deployed, again after a crash, and nowhere else."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.config import GIB
from appliance.domain import DeployedModel, DeployedModelState, Deployment, Model, ModelKind, ReplicaState
from appliance.errors import Code, HearthError
from appliance.store import deployed_models, models
from appliance.store.database import Database
from models.info import AddonInfo
from tests.appliance.orchestrator.samples import sample_model
from tests.appliance.orchestrator.world import World, running_world
from tests.fakes.fake_worker import answer
from tests.waiting import until

INFO = AddonInfo(rank=8, scaling=2.0, target_modules=["q_proj"], dtype="float32", num_parameters=1, weight_bytes=1)
LOADED = (DeployedModelState.DEPLOYED, "")


class Studio:
    """A running world whose addons are looked after; observations are written as the service would."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: dict[str, tuple[DeployedModelState, str]] = {}
        """By deployed model's id; those that are gone have none."""
        self.failed = False
        """What was said last, of whichever."""
        world.adapters.observer = self

    async def observe(self, deployed: DeployedModel, is_loaded: bool, has_failed: bool, message: str) -> None:
        async with self.world.database.transaction() as tx:
            current = await deployed_models.get(tx.connection, "acme", deployed.id)
            assert current is not None
            state = DeployedModelState.DEPLOYED if is_loaded else current.state
            changed = replace(current, state=state, has_failed=has_failed, status_message=message)
            await deployed_models.update(tx, changed)
        self.seen[deployed.id] = (state, message)
        self.failed = has_failed

    async def forget(self, deployed: DeployedModel) -> None:
        async with self.world.database.transaction() as tx:
            await deployed_models.delete(tx, "acme", deployed.id)
        self.seen.pop(deployed.id, None)

    def directory(self, addon_id: str) -> Path:
        return self.world.models_dir / f"addon-{addon_id}"

    async def load(self, addon_id: str, on: Deployment, deployed_model_id: str = "", flaw: str = "") -> str:
        """Deploy an addon of its own; returns the name by which workers know it."""
        addon = addon_of(addon_id, on)
        deployed = DeployedModel(
            account_id="acme",
            id=deployed_model_id or addon_id,
            model=addon.name,
            deployment=on.name,
            is_default=True,
            state=DeployedModelState.DEPLOYING,
            created_at=0.0,
            updated_at=0.0,
        )
        self.directory(addon_id).mkdir(exist_ok=True)
        if flaw:
            (self.directory(addon_id) / flaw).touch()
        async with self.world.database.transaction() as tx:
            if await models.get(tx.connection, "acme", addon.id) is None:
                await models.insert(tx, addon)
            await deployed_models.insert(tx, deployed)
        self.world.adapters.notify()
        return deployed.name

    async def unload(self, deployed_model_id: str) -> None:
        async with self.world.database.transaction() as tx:
            current = await deployed_models.get(tx.connection, "acme", deployed_model_id)
            assert current is not None
            await deployed_models.update(tx, replace(current, state=DeployedModelState.UNDEPLOYING, is_default=False))
        self.world.adapters.notify()

    async def refusal(self, deployment: Deployment, adapter: str, wait_s: float = 60.0) -> HearthError:
        with pytest.raises(HearthError) as refused:
            async with self.world.router.lease(deployment, None, wait_s, adapter):
                pass
        return refused.value


def addon_of(addon_id: str, on: Deployment) -> Model:
    return replace(
        sample_model(addon_id),
        directory=f"addon-{addon_id}",
        kind=ModelKind.HF_PEFT_ADDON,
        info=None,
        base_model=on.base_model,
        addon_info=INFO,
    )


@asynccontextmanager
async def open_studio(tmp_path: Path, database: Database, **changes: Any) -> AsyncIterator[Studio]:
    async with running_world(tmp_path, database, **changes) as world:
        studio = Studio(world)
        await world.adapters.start()
        try:
            yield studio
        finally:
            await world.adapters.close()


@pytest.fixture
async def studio(tmp_path: Path, database: Database) -> AsyncIterator[Studio]:
    async with open_studio(tmp_path, database) as studio:
        yield studio


async def test_an_addon_is_loaded_into_every_replica_and_answers_under_its_name(studio: Studio) -> None:
    world = studio.world
    deployment = await world.deploy("poet", desired_replica_count=2, max_replica_count=2, enable_addons=True)
    other = await world.deploy("painter", enable_addons=True)
    adapter = await studio.load("rhymes", deployment)
    assert await world.ask(deployment, "hello", adapter=adapter) == answer("hello", adapter=adapter)
    assert await world.ask(deployment, "hello") == answer("hello") != answer("hello", adapter=adapter)
    await world.until_ready("poet", 2)
    await world.until_ready("painter")
    ready = world.supervisor.outlook(deployment).ready
    await until(lambda: all(world.adapters.has_adapter(replica, adapter) for replica in ready.values()))
    await until(lambda: studio.seen["rhymes"] == LOADED)
    for replica in world.supervisor.outlook(other).ready.values():
        assert not world.adapters.has_adapter(replica, adapter)


async def test_what_is_undeployed_is_unloaded_and_gone_and_the_others_stay(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", enable_addons=True)
    first, second = await studio.load("rhymes", deployment), await studio.load("haiku", deployment)
    await until(lambda: len(studio.seen) == 2)
    await studio.unload("rhymes")
    await until(lambda: list(studio.seen) == ["haiku"])
    (replica,) = studio.world.supervisor.outlook(deployment).ready.values()
    assert not studio.world.adapters.has_adapter(replica, first)
    assert await studio.world.ask(deployment, "hello", adapter=second) == answer("hello", adapter=second)
    again = await studio.load("rhymes", deployment, "again")
    assert await studio.world.ask(deployment, "hello", adapter=again) == answer("hello", adapter=again)


async def test_a_worker_that_takes_the_place_of_a_dead_one_loads_all_of_them_again(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", enable_addons=True)
    names = [await studio.load(addon_id, deployment) for addon_id in ("rhymes", "haiku")]
    await until(lambda: len(studio.seen) == 2)
    (view,) = studio.world.views("poet")
    assert view.pid is not None
    os.kill(view.pid, signal.SIGKILL)
    await until(lambda: [each.state for each in studio.world.views("poet")] != [ReplicaState.READY])
    for name in names:
        assert await studio.world.ask(deployment, "hello", adapter=name) == answer("hello", adapter=name)
    (after,) = studio.world.views("poet")
    assert after.pid != view.pid


async def test_a_worker_that_slept_has_its_addons_still(tmp_path: Path, database: Database) -> None:
    async with open_studio(tmp_path, database, host_cache_bytes=GIB) as studio:
        deployment = await studio.world.deploy("poet", enable_addons=True)
        adapter = await studio.load("rhymes", deployment)
        await until(lambda: studio.seen.get("rhymes") == LOADED)
        (replica,) = studio.world.supervisor.outlook(deployment).ready.values()
        worker = replica.client
        replica.sleep()
        await until(lambda: replica.host_bytes)  # it is asleep, or was
        assert await studio.world.ask(deployment, "hello", adapter=adapter) == answer("hello", adapter=adapter)
        assert replica.client is worker


async def test_what_a_worker_refuses_for_good_is_said_at_once_and_not_tried_again(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", enable_addons=True)
    adapter = await studio.load("rhymes", deployment, flaw="refuse")
    refused = await studio.refusal(deployment, adapter)
    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "ADDON_FAILED")
    assert "not of this base model" in refused.message
    await until(lambda: studio.seen.get("rhymes") == (DeployedModelState.DEPLOYING, "not of this base model"))
    assert studio.failed
    assert await studio.world.ask(deployment, "hello") == answer("hello")
    await studio.unload("rhymes")
    await until(lambda: not studio.seen)


async def test_what_failed_is_tried_again(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", enable_addons=True)
    adapter = await studio.load("rhymes", deployment, flaw="fail")
    await until(lambda: studio.seen.get("rhymes") == (DeployedModelState.DEPLOYING, "RuntimeError while loading"))
    assert not studio.failed
    (studio.directory("rhymes") / "fail").unlink()
    assert await studio.world.ask(deployment, "hello", adapter=adapter) == answer("hello", adapter=adapter)
    await until(lambda: studio.seen["rhymes"] == LOADED)


async def test_the_base_model_does_not_wait_for_an_addon(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", enable_addons=True)
    adapter = await studio.load("rhymes", deployment, flaw="hang")
    assert await studio.world.ask(deployment, "hello") == answer("hello")
    refused = await studio.refusal(deployment, adapter, wait_s=0.05)
    assert refused.code is Code.UNAVAILABLE


async def test_at_zero_replicas_an_addon_is_deployed_and_loaded_when_one_wakes(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", desired_replica_count=0, enable_addons=True)
    adapter = await studio.load("rhymes", deployment)
    await until(lambda: studio.seen.get("rhymes") == LOADED)
    deployment = await studio.world.change(deployment, desired_replica_count=1)
    assert await studio.world.ask(deployment, "hello", adapter=adapter) == answer("hello", adapter=adapter)


async def test_why_its_deployment_has_no_replica_is_said(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", gigabytes=500.0, enable_addons=True)
    await studio.load("rhymes", deployment)
    await until(lambda: studio.seen.get("rhymes", LOADED)[1])
    state, message = studio.seen["rhymes"]
    assert state is DeployedModelState.DEPLOYING
    assert message == studio.world.supervisor.outlook(deployment).waiting_reason


async def test_a_new_replica_beside_settled_ones_is_noticed(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", max_replica_count=2, enable_addons=True)
    adapter = await studio.load("rhymes", deployment)
    await until(lambda: studio.seen.get("rhymes") == LOADED)
    deployment = await studio.world.change(deployment, desired_replica_count=2)
    await studio.world.until_ready("poet", 2)
    ready = studio.world.supervisor.outlook(deployment).ready.values()
    await until(lambda: all(studio.world.adapters.has_adapter(replica, adapter) for replica in ready))


async def test_an_addon_undeployed_at_zero_replicas_is_gone_at_once(studio: Studio) -> None:
    deployment = await studio.world.deploy("poet", desired_replica_count=0, enable_addons=True)
    await studio.load("rhymes", deployment)
    await until(lambda: studio.seen.get("rhymes") == LOADED)
    await studio.unload("rhymes")
    await until(lambda: not studio.seen)
