import asyncio

import pytest
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import (
    DeployedModelState,
    DeploymentState,
    Precision,
    Role,
)
from appliance.errors import Code
from appliance.orchestrator.group import ReplicaCounts
from appliance.services.deployments import DeploymentSpec
from appliance.store.database import Database
from tests.appliance.services.deployment_service import PURGE_S, Service, deployed_on, refusal
from tests.appliance.services.samples import ADA, GUS, HOME_ADMIN, deployed, deployment, model, principal, put
from tests.fakes.fake_clock import FakeClock

POET = model("acme", "poet")
BOB = principal("acme", "bob", Role.CONTRIBUTOR)
CREATING, READY = DeploymentState.CREATING, DeploymentState.READY
UPDATING, DELETING, DELETED = DeploymentState.UPDATING, DeploymentState.DELETING, DeploymentState.DELETED


@pytest.fixture
async def service(database: Database, settings: IdentitySettings) -> Service:
    await put(database, POET)
    return Service(database, settings)


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


async def test_a_spec_that_cannot_be_is_refused_before_anything_is_written(service: Service) -> None:
    for spec in ({"accelerator_type": "NVIDIA_L4_24GB"}, {"max_context_length": 10**6}, {"min_replica_count": 9}):
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
    (deployed_model,) = await deployed_on(database, created)
    assert (deployed_model.state, deployed_model.is_default) == (DeployedModelState.DELETED, False)
    assert (await refusal(service.deployments.get(ADA, "acme", "fast"))).code is Code.NOT_FOUND
    assert await service.deployments.list(ADA, "acme", show_deleted=False) == []
    assert len(await service.deployments.list(ADA, "acme", show_deleted=True)) == 1


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
    error = await refusal(service.deployments.delete(ADA, "acme", "first", hard=False, ignore_checks=False))
    assert error.code is Code.FAILED_PRECONDITION
    assert (await service.deployments.resolve(ADA, "poet")).deployment == first
    await service.deployments.delete(ADA, "acme", "first", hard=False, ignore_checks=True)
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


async def test_an_update_that_needs_new_workers_is_a_new_revision_and_rolls(service: Service, clock: FakeClock) -> None:
    await service.create(max_replica_count=2)
    await service.observe("fast", 1, 1, 0, 0, 0)
    clock.advance(5.0)
    changed = await service.update(precision=Precision.FP16)
    assert (changed.state, changed.revision, changed.precision) == (UPDATING, 2, Precision.FP16)
    assert changed.updated_at == clock()
    assert service.num_notified == 2
    assert (await service.observe("fast", 1, 2, 0, 0, 0, 1)).state is UPDATING
    assert (await service.observe("fast", 1, 1, 0, 0, 0, 0)).state is READY


async def test_an_update_that_workers_need_not_know_of_leaves_them_alone(service: Service) -> None:
    created = await service.create()
    ready = await service.observe("fast", 1, 1, 0, 0, 0)
    changed = await service.update(display_name="Fast", scale_up_window_s=1.0, is_pinned=True, auto_delete_s=0.0)
    assert (changed.state, changed.revision) == (READY, ready.revision)
    assert (changed.display_name, changed.is_pinned, changed.auto_delete_s) == ("Fast", True, 0.0)
    assert changed.autoscaling == replace(created.autoscaling, scale_up_window_s=1.0)
    assert await service.deployments.get(ADA, "acme", "fast") == changed
    again = await service.update(base_model=POET.name, display_name="Fast")
    assert again == changed, "what is sent back as it was read changes nothing"


async def test_the_desired_count_follows_new_limits_with_its_reason(service: Service) -> None:
    await service.create(max_replica_count=4)
    assert (await service.update(min_replica_count=3)).desired_replica_count == 3
    lowered = await service.update(min_replica_count=0, max_replica_count=2)
    assert lowered.desired_replica_count == 2
    assert [(found.from_count, found.to_count) for found in await service.deployments.history(lowered)] == [
        (3, 2),
        (1, 3),
    ]
    assert "between 0 and 2" in (await service.deployments.history(lowered))[0].reason


async def test_an_update_that_only_validates_changes_nothing(service: Service) -> None:
    created = await service.create()
    asked = DeploymentSpec(base_model="poet", precision=Precision.FP16)
    would_be = await service.deployments.update(ADA, "acme", "fast", asked, ["precision"], validate_only=True)
    assert (would_be.revision, would_be.precision) == (2, Precision.FP16)
    assert await service.deployments.get(ADA, "acme", "fast") == created


async def test_an_update_is_refused_as_a_creation_would_be(service: Service, database: Database) -> None:
    await put(database, model("globex", "diary"))
    await service.create()
    for fields, code, param in (
        ({"min_replica_count": 2}, Code.INVALID, "maxReplicaCount"),
        ({"accelerator_type": "NVIDIA_L4_24GB"}, Code.INVALID, "acceleratorType"),
        ({"draft_model": "accounts/globex/models/diary"}, Code.NOT_FOUND, "draftModel"),
        ({"max_context_length": 10**6}, Code.INVALID, "maxContextLength"),
        ({"expires_at": 1.0}, Code.INVALID, "expireTime"),
        ({"shape": "huge"}, Code.INVALID, "deploymentShape"),
    ):
        error = await refusal(service.update(**fields))
        assert (error.code, error.param) == (code, param)
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    assert (await refusal(service.update(display_name="Late"))).code is Code.FAILED_PRECONDITION


async def test_an_eviction_lowers_what_is_desired_down_to_the_minimum_and_says_why(service: Service) -> None:
    created = await service.create(min_replica_count=1, max_replica_count=3)
    await service.deployments.scale(ADA, "acme", "fast", 3)
    await service.deployments.evict(created, 0, "made room")
    evicted = await service.deployments.get(ADA, "acme", "fast")
    assert evicted.desired_replica_count == 1
    assert (await service.deployments.history(evicted))[0].reason == "made room"
    await service.deployments.evict(created, 2, "made room")
    assert (await service.deployments.get(ADA, "acme", "fast")).desired_replica_count == 1


async def test_what_was_pinned_or_deleted_meanwhile_is_not_evicted(service: Service) -> None:
    created = await service.create()
    await service.update(is_pinned=True)
    await service.deployments.evict(created, 0, "made room")
    assert (await service.deployments.get(ADA, "acme", "fast")).desired_replica_count == 1
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    await service.deployments.evict(created, 0, "made room")
    assert (await service.deployments.history(created))[0].reason == "deleted"


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
            service.deployments.update(who, account_id, deployment_id, DeploymentSpec(base_model="poet"), []),
            service.deployments.undelete(who, account_id, deployment_id),
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
