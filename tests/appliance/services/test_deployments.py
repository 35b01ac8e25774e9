import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import DeployedModel, DeployedModelState, Deployment, DeploymentState, ModelState, Principal, Role
from appliance.errors import Code, HearthError
from appliance.orchestrator.supervisor import ReplicaCounts
from appliance.services.deployments import Box, Deployments, DeploymentSpec, next_state
from appliance.store import deployed_models, deployments
from appliance.store.database import Database
from tests.appliance.services.samples import ADA, GUS, HOME_ADMIN, deployed, deployment, model, principal, put
from tests.fakes.fake_clock import FakeClock

POET = model("acme", "poet")
BOB = principal("acme", "bob", Role.CONTRIBUTOR)
PURGE_S = 600.0
CREATING, READY, FAILED = DeploymentState.CREATING, DeploymentState.READY, DeploymentState.FAILED
DELETING, DELETED = DeploymentState.DELETING, DeploymentState.DELETED


class Service:
    """The service, what it told the supervisor, and what it is told of requests in flight."""

    def __init__(self, database: Database, settings: IdentitySettings) -> None:
        self.num_notified = 0
        self.num_in_flight = 0
        box = Box(["CPU"], 8, self._note, lambda account_id, deployment_id: self.num_in_flight)
        self.deployments = Deployments(database, settings, box, PURGE_S)

    def _note(self) -> None:
        self.num_notified += 1

    async def create(self, deployment_id: str | None = "fast", who: Principal = ADA, **spec: Any) -> Deployment:
        return await self.deployments.create(
            who,
            who.account_id,
            deployment_id,
            DeploymentSpec(**({"base_model": "poet"} | spec)),
            disable_auto_deploy=False,
            validate_only=False,
        )

    async def observe(self, deployment_id: str, *counts: int, message: str = "") -> Deployment:
        """As the supervisor does it: with the row as its last look showed it."""
        seen = await self.deployments.get(ADA, "acme", deployment_id)
        await self.deployments.observe(seen, ReplicaCounts(*counts), message)
        (found,) = [
            each for each in await self.deployments.list(ADA, "acme", show_deleted=True) if each.id == deployment_id
        ]
        return found


@pytest.fixture
async def service(database: Database, settings: IdentitySettings) -> Service:
    await put(database, POET)
    return Service(database, settings)


async def refusal(attempt: object) -> HearthError:
    with pytest.raises(HearthError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value


async def deployed_on(database: Database, where: Deployment) -> list[DeployedModel]:
    async with database.reader() as db:
        return await deployed_models.list_of_deployment(db, where.name)


@pytest.mark.parametrize(
    ("current", "wanted", "ready", "starting", "waiting", "failed", "following"),
    [
        (CREATING, 1, 0, 1, 0, 0, CREATING),
        (CREATING, 1, 0, 0, 1, 0, CREATING),
        (CREATING, 2, 0, 0, 1, 1, CREATING),
        (CREATING, 2, 1, 0, 0, 1, READY),
        (CREATING, 1, 1, 0, 0, 0, READY),
        (CREATING, 0, 0, 0, 0, 0, READY),
        (CREATING, 1, 0, 0, 0, 1, FAILED),
        (READY, 1, 1, 0, 0, 0, READY),
        (READY, 1, 0, 1, 0, 0, READY),
        (READY, 1, 0, 0, 1, 0, READY),
        (READY, 0, 0, 0, 0, 0, READY),
        (READY, 2, 0, 0, 0, 2, FAILED),
        (READY, 2, 1, 0, 0, 1, READY),
        (FAILED, 1, 0, 0, 0, 1, FAILED),
        (FAILED, 1, 0, 1, 0, 0, CREATING),
        (FAILED, 1, 0, 0, 1, 0, CREATING),
        (FAILED, 2, 1, 1, 0, 0, READY),
        (FAILED, 0, 0, 0, 0, 0, READY),
        (DELETING, 0, 0, 0, 0, 0, DELETED),
        (DELETING, 1, 1, 0, 0, 0, DELETING),
        (DELETING, 1, 0, 0, 0, 1, DELETING),
        (DELETED, 0, 0, 0, 0, 0, DELETED),
    ],
)
def test_observation_moves_a_deployment(
    current: DeploymentState,
    wanted: int,
    ready: int,
    starting: int,
    waiting: int,
    failed: int,
    following: DeploymentState,
) -> None:
    assert next_state(current, ReplicaCounts(wanted, ready, starting, waiting, failed)) is following


@given(current=st.sampled_from(DeploymentState), counts=st.tuples(*[st.integers(0, 3)] * 4))
def test_no_observation_deletes_or_brings_back(current: DeploymentState, counts: tuple[int, int, int, int]) -> None:
    following = next_state(current, ReplicaCounts(sum(counts), *counts))
    if current in (DELETING, DELETED):
        assert following in (DELETING, DELETED)
        assert current is DELETING or following is DELETED
    else:
        assert following not in (DELETING, DELETED)


async def test_a_new_deployment_starts_and_its_model_is_deployed_on_it(service: Service, database: Database) -> None:
    created = await service.create()
    assert (created.state, created.desired_replica_count, created.created_by) == (CREATING, 1, "ada")
    assert service.num_notified == 1
    assert await service.deployments.get(ADA, "acme", "fast") == created
    (deployed_model,) = await deployed_on(database, created)
    assert (deployed_model.model, deployed_model.is_default) == (POET.name, True)
    assert deployed_model.state is DeployedModelState.DEPLOYING
    assert (await service.observe("fast", 1, 1, 0, 0, 0)).state is READY
    (deployed_model,) = await deployed_on(database, created)
    assert deployed_model.state is DeployedModelState.DEPLOYED


async def test_an_id_is_made_when_none_is_given(service: Service) -> None:
    first, second = await service.create(None), await service.create(None)
    assert first.id != second.id
    assert (await refusal(service.create("Fast"))).param == "deploymentId"


async def test_asking_only_for_validation_changes_nothing(service: Service) -> None:
    spec = DeploymentSpec(base_model="poet", min_replica_count=2)
    would_be = await service.deployments.create(
        ADA, "acme", "fast", spec, disable_auto_deploy=False, validate_only=True
    )
    assert (would_be.name, would_be.max_replica_count) == ("accounts/acme/deployments/fast", 2)
    assert await service.deployments.list(ADA, "acme", show_deleted=True) == []
    assert service.num_notified == 0
    await service.create()
    attempt = service.deployments.create(ADA, "acme", "fast", spec, disable_auto_deploy=False, validate_only=True)
    assert (await refusal(attempt)).code is Code.CONFLICT


async def test_without_auto_deploy_the_models_name_does_not_lead_here(service: Service, database: Database) -> None:
    spec = DeploymentSpec(base_model="poet")
    created = await service.deployments.create(ADA, "acme", "fast", spec, disable_auto_deploy=True, validate_only=False)
    assert await deployed_on(database, created) == []
    assert (await refusal(service.deployments.resolve(ADA, "poet"))).code is Code.NOT_FOUND
    assert (await service.deployments.resolve(ADA, created.name)).deployment == created


@pytest.mark.parametrize(
    ("base_model", "code"),
    [
        ("nothing", Code.NOT_FOUND),
        ("accounts/globex/models/diary", Code.NOT_FOUND),
        ("accounts/acme/models/draft", Code.FAILED_PRECONDITION),
        ("not a name / at all", Code.NOT_FOUND),
    ],
)
async def test_a_base_model_must_be_there_ready_and_in_sight(
    service: Service, database: Database, base_model: str, code: Code
) -> None:
    await put(database, model("globex", "diary"), model("acme", "draft", state=ModelState.UPLOADING))
    error = await refusal(service.create(base_model=base_model))
    assert (error.code, error.param) == (code, "baseModel")


async def test_a_draft_model_must_be_there_ready_and_in_sight_and_is_in_use_then(
    service: Service, database: Database
) -> None:
    await put(database, model("acme", "apprentice"), model("globex", "diary"))
    error = await refusal(service.create(draft_model="accounts/globex/models/diary"))
    assert (error.code, error.param) == (Code.NOT_FOUND, "draftModel")
    created = await service.create(draft_model="apprentice", draft_token_count=4)
    assert created.draft_model == "accounts/acme/models/apprentice"
    async with database.reader() as db:
        assert await deployments.list_of_model(db, created.draft_model) == [created]


async def test_a_spec_that_cannot_be_is_refused_before_anything_is_written(service: Service) -> None:
    for spec in ({"accelerator_type": "NVIDIA_H100_80GB"}, {"max_context_length": 10**6}, {"min_replica_count": 9}):
        assert (await refusal(service.create(**spec))).code is Code.INVALID
    assert await service.deployments.list(ADA, "acme", show_deleted=True) == []


async def test_scaling_sets_the_desired_count_within_the_maximum(service: Service, clock: FakeClock) -> None:
    await service.create(min_replica_count=1, max_replica_count=3)
    clock.advance(5.0)
    scaled = await service.deployments.scale(ADA, "acme", "fast", 3)
    assert (scaled.desired_replica_count, scaled.updated_at) == (3, clock())
    assert (await service.deployments.scale(ADA, "acme", "fast", 0)).desired_replica_count == 0
    assert service.num_notified == 3
    for count in (4, -1):
        error = await refusal(service.deployments.scale(ADA, "acme", "fast", count))
        assert (error.code, error.param) == (Code.INVALID, "replicaCount")


async def test_a_deployment_is_deleted_softly_when_its_last_replica_is_gone(
    service: Service, database: Database, clock: FakeClock
) -> None:
    created = await service.create()
    await service.observe("fast", 1, 1, 0, 0, 0)
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    leaving = await service.deployments.get(ADA, "acme", "fast")
    assert (leaving.state, leaving.desired_replica_count) == (DELETING, 0)
    assert (leaving.deleted_at, leaving.purge_at) == (clock(), clock() + PURGE_S)
    assert (await refusal(service.deployments.resolve(ADA, "poet"))).code is Code.NOT_FOUND
    assert (await refusal(service.deployments.scale(ADA, "acme", "fast", 1))).code is Code.FAILED_PRECONDITION
    await service.deployments.observe(created, ReplicaCounts(1, 1, 0, 0, 0), "")  # a look before the deletion
    assert (await service.deployments.get(ADA, "acme", "fast")).state is DELETING
    assert (await service.observe("fast", 0, 0, 0, 0, 0)).state is DELETED
    assert await deployed_on(database, created) == []
    assert (await refusal(service.deployments.get(ADA, "acme", "fast"))).code is Code.NOT_FOUND
    assert await service.deployments.list(ADA, "acme", show_deleted=False) == []
    assert len(await service.deployments.list(ADA, "acme", show_deleted=True)) == 1


async def test_a_soft_deleted_deployment_keeps_its_name_until_it_is_purged(service: Service, clock: FakeClock) -> None:
    await service.create()
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    await service.observe("fast", 0, 0, 0, 0, 0)
    error = await refusal(service.create())
    assert error.code is Code.CONFLICT
    assert "hard" in error.message
    clock.advance(PURGE_S - 1)
    await service.deployments.purge()
    assert (await refusal(service.create())).code is Code.CONFLICT
    clock.advance(1)
    await service.deployments.purge()
    await service.create()


async def test_a_hard_deletion_leaves_nothing(service: Service) -> None:
    await service.create()
    await service.deployments.delete(ADA, "acme", "fast", hard=True, ignore_checks=False)
    seen = await service.deployments.get(ADA, "acme", "fast")
    assert seen.state is DELETING
    await service.deployments.observe(seen, ReplicaCounts(0, 0, 0, 0, 0), "")
    assert await service.deployments.list(ADA, "acme", show_deleted=True) == []
    await service.create()


async def test_a_deleted_deployment_can_still_be_deleted_hard(service: Service) -> None:
    await service.create()
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    await service.observe("fast", 0, 0, 0, 0, 0)
    soft = service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    assert (await refusal(soft)).code is Code.NOT_FOUND
    await service.deployments.delete(ADA, "acme", "fast", hard=True, ignore_checks=False)
    assert await service.deployments.list(ADA, "acme", show_deleted=True) == []


async def test_a_deployment_that_answers_requests_is_deleted_only_on_insistence(service: Service) -> None:
    await service.create()
    service.num_in_flight = 2
    attempt = service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    error = await refusal(attempt)
    assert error.code is Code.FAILED_PRECONDITION
    assert "2 requests" in error.message
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=True)
    assert (await service.deployments.get(ADA, "acme", "fast")).state is DELETING


async def test_a_models_name_leads_to_the_next_deployment_when_its_default_is_deleted(
    service: Service, clock: FakeClock
) -> None:
    first = await service.create("first")
    clock.advance(1.0)
    second = await service.create("second")
    assert (await service.deployments.resolve(ADA, "poet")).deployment == first
    await service.deployments.delete(ADA, "acme", "first", hard=False, ignore_checks=False)
    assert (await service.deployments.resolve(ADA, "poet")).deployment == second


async def test_what_cannot_be_reached_is_refused_in_the_documented_words(service: Service) -> None:
    await service.create()
    for who, field in ((ADA, "nothing"), (GUS, POET.name), (ADA, ""), (ADA, "a/b/c/d")):
        error = await refusal(service.deployments.resolve(who, field))
        assert (error.code, error.param) == (Code.NOT_FOUND, "model")
        assert error.message == "Model not found, inaccessible, and/or not deployed"
    target = await service.deployments.resolve(ADA, "poet")
    assert (target.deployment.id, target.model) == ("fast", POET)


async def test_a_request_wakes_a_deployment_at_zero_once(service: Service) -> None:
    sleeping = await service.create(max_replica_count=2)
    sleeping = await service.deployments.scale(ADA, "acme", "fast", 0)
    await asyncio.gather(*(service.deployments.wake(sleeping) for _ in range(5)))
    woken = await service.deployments.get(ADA, "acme", "fast")
    assert woken.desired_replica_count == 1
    await service.deployments.scale(ADA, "acme", "fast", 2)
    await service.deployments.wake(sleeping)
    assert (await service.deployments.get(ADA, "acme", "fast")).desired_replica_count == 2


async def test_a_deployment_held_at_zero_is_not_woken(service: Service) -> None:
    held = await service.create(max_replica_count=0)
    assert held.desired_replica_count == 0
    error = await refusal(service.deployments.wake(held))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "DEPLOYMENT_SCALED_TO_ZERO")


async def test_a_deployment_that_was_deleted_meanwhile_is_not_woken(service: Service) -> None:
    sleeping = await service.create()
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    assert (await refusal(service.deployments.wake(sleeping))).code is Code.NOT_FOUND


async def test_an_observation_is_written_once_and_is_no_change_of_what_is_asked(
    service: Service, database: Database, clock: FakeClock
) -> None:
    created = await service.create()
    clock.advance(5.0)
    waiting = await service.observe("fast", 1, 0, 0, 1, 0, message="needs 31.2 GiB, free 27.8")
    assert (waiting.state, waiting.status_message) == (CREATING, "needs 31.2 GiB, free 27.8")
    assert waiting.updated_at == created.updated_at
    async with database.transaction() as tx:  # nobody else may write now, so this one must not try
        await service.deployments.observe(waiting, ReplicaCounts(1, 0, 0, 1, 0), waiting.status_message)
        assert await deployments.get(tx.connection, "acme", "fast") == waiting
    failed = await service.observe("fast", 1, 0, 0, 0, 1, message="replica 0 failed")
    assert (failed.state, failed.status_message) == (FAILED, "replica 0 failed")
    assert (await service.observe("fast", 1, 1, 0, 0, 0)).status_message == ""


async def test_an_observation_of_another_desired_count_is_out_of_date(service: Service) -> None:
    held = await service.create(max_replica_count=1)
    await service.deployments.scale(ADA, "acme", "fast", 0)
    await service.deployments.scale(ADA, "acme", "fast", 1)
    await service.deployments.observe(held, ReplicaCounts(0, 0, 0, 0, 0), "")
    assert (await service.deployments.get(ADA, "acme", "fast")).state is CREATING


async def test_an_observation_of_a_deployment_that_is_gone_is_nothing(service: Service) -> None:
    await service.deployments.observe(deployment("acme", "gone", POET.name), ReplicaCounts(1, 0, 0, 0, 1), "failed")
    assert await service.deployments.list(ADA, "acme", show_deleted=True) == []


async def test_deployments_are_changed_by_those_who_may(service: Service, database: Database) -> None:
    shared = model("library", "shared")
    serving = replace(deployment("library", "serving", shared.name), created_by="")
    await put(database, shared, serving, deployed(serving, "theirs"))
    await service.create()
    for who, account_id, deployment_id, code in (
        (BOB, "acme", "fast", Code.FORBIDDEN),
        (GUS, "acme", "fast", Code.NOT_FOUND),
        (ADA, "acme", "nothing", Code.NOT_FOUND),
        (ADA, "library", "serving", Code.FORBIDDEN),
    ):
        for attempt in (
            service.deployments.scale(who, account_id, deployment_id, 0),
            service.deployments.delete(who, account_id, deployment_id, hard=True, ignore_checks=True),
        ):
            assert (await refusal(attempt)).code is code
    await service.create("bobs", BOB)
    await service.deployments.scale(BOB, "acme", "bobs", 0)
    await service.deployments.scale(HOME_ADMIN, "library", "serving", 0)
    inference_user = principal("acme", "ida", Role.INFERENCE_USER)
    assert (await refusal(service.create("idas", inference_user))).code is Code.FORBIDDEN


async def test_deployments_of_other_accounts_do_not_exist(service: Service) -> None:
    await service.create()
    for attempt in (
        service.deployments.get(GUS, "acme", "fast"),
        service.deployments.list(GUS, "acme", show_deleted=True),
        service.deployments.create(
            GUS,
            "acme",
            "theirs",
            DeploymentSpec(base_model=POET.name),
            disable_auto_deploy=False,
            validate_only=True,
        ),
    ):
        assert (await refusal(attempt)).code is Code.NOT_FOUND
