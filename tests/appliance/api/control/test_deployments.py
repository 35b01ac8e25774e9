"""Deployments through the real `fireworks` package and through plain HTTP, and how replicas are counted."""

import asyncio
from typing import Any

import fireworks
import pytest
from fireworks import Fireworks

from appliance.api.control.deployments import render_deployment
from appliance.domain import Deployment, DeploymentState, ReplicaState
from appliance.orchestrator.supervisor import ReplicaCounts, ReplicaView
from appliance.store import deployments
from runtime.protocol import LoadProgress
from tests.appliance.api.conftest import ASLEEP_MODEL, READY_MODEL, Api

DEPLOYMENTS = "/v1/accounts/hearth/deployments"


async def report(api: Api, deployment_id: str, counts: ReplicaCounts, message: str = "") -> None:
    """What the supervisor would tell."""
    async with api.services.node.database.reader() as db:
        deployment = await deployments.get(db, "hearth", deployment_id)
    assert deployment is not None
    await api.services.deployments.observe(deployment, counts, message)


def counts(wanted: int, ready: int = 0) -> ReplicaCounts:
    return ReplicaCounts(wanted=wanted, ready=ready, starting=0, waiting=0, failed=0)


async def test_a_deployment_is_created_scaled_and_deleted(api: Api, admin: Fireworks) -> None:
    created = await asyncio.to_thread(
        admin.deployments.create,
        base_model=READY_MODEL,
        deployment_id="blue",
        display_name="Blue",
        min_replica_count=1,
        max_replica_count=2,
        extra_body={"annotations": {"team": "search"}},
        enable_session_affinity=True,
        accept_shapeless_risk=True,
    )
    assert created.name == "accounts/hearth/deployments/blue"
    assert (created.state, created.base_model, created.display_name) == ("CREATING", READY_MODEL, "Blue")
    assert (created.min_replica_count, created.max_replica_count, created.desired_replica_count) == (1, 2, 1)
    assert created.to_dict()["annotations"] == {"team": "search"}
    assert created.replica_count == 0
    assert created.replica_stats is not None
    assert created.replica_stats.pending_scheduling_replica_count == 1

    await report(api, "blue", counts(1, ready=1))
    # Some clients put the whole name where the id belongs.
    found = await asyncio.to_thread(admin.deployments.get, "accounts/hearth/deployments/blue")
    assert found.state == "READY"

    await asyncio.to_thread(admin.deployments.scale, "blue", replica_count=2)
    scaled = await asyncio.to_thread(admin.deployments.get, "blue")
    assert scaled.desired_replica_count == 2
    with pytest.raises(fireworks.BadRequestError, match="replicaCount"):
        await asyncio.to_thread(admin.deployments.scale, "blue", replica_count=3)

    await asyncio.to_thread(admin.deployments.delete, "blue", ignore_checks=True)
    assert (await asyncio.to_thread(admin.deployments.get, "blue")).state == "DELETING"
    await report(api, "blue", counts(0))
    with pytest.raises(fireworks.NotFoundError):
        await asyncio.to_thread(admin.deployments.get, "blue")


async def test_deleted_ones_are_listed_on_request_and_hard_deletion_forgets_them(api: Api, admin: Fireworks) -> None:
    def ids(**query: Any) -> list[str]:
        return [str(found.name).rpartition("/")[2] for found in admin.deployments.list(page_size=1, **query)]

    for deployment_id in ("one", "two"):
        await asyncio.to_thread(admin.deployments.create, base_model=ASLEEP_MODEL, deployment_id=deployment_id)
    assert await asyncio.to_thread(ids) == ["asleep-deployment", "one", "two"], "by creation"
    for deployment_id, is_hard in (("one", False), ("two", True)):
        await asyncio.to_thread(admin.deployments.delete, deployment_id, hard=is_hard)
        await report(api, deployment_id, counts(0))
    assert await asyncio.to_thread(ids) == ["asleep-deployment"]
    assert await asyncio.to_thread(ids, show_deleted=True) == ["asleep-deployment", "one"]
    (deleted,) = [
        found
        for found in await asyncio.to_thread(lambda: list(admin.deployments.list(show_deleted=True)))
        if found.state == "DELETED"
    ]
    assert deleted.delete_time is not None
    assert deleted.purge_time is not None
    assert deleted.purge_time > deleted.delete_time


async def test_validation_creates_nothing_and_an_id_is_made_up_when_none_is_given(admin: Fireworks) -> None:
    would_be = await asyncio.to_thread(
        admin.deployments.create, base_model=READY_MODEL, deployment_id="blue", validate_only=True
    )
    assert would_be.name == "accounts/hearth/deployments/blue"
    with pytest.raises(fireworks.NotFoundError):
        await asyncio.to_thread(admin.deployments.get, "blue")
    created = await asyncio.to_thread(admin.deployments.create, base_model=READY_MODEL)
    assert created.name is not None
    assert (await asyncio.to_thread(admin.deployments.get, created.name.rpartition("/")[2])).name == created.name


async def test_speculation_is_asked_for_shown_and_switched_off(api: Api) -> None:
    body = {"baseModel": READY_MODEL, "draftModel": READY_MODEL, "draftTokenCount": 4, "ngramSpeculationLength": 3}
    for query, shown in (("", (READY_MODEL, 4, 3)), ("&disableSpeculativeDecoding=true", (None, None, None))):
        url = f"{DEPLOYMENTS}?validateOnly=true{query}"
        async with api.session.post(url, json=body, headers=api.bearer()) as response:
            answer = await response.json()
            assert response.status == 200, answer
            assert tuple(map(answer.get, ("draftModel", "draftTokenCount", "ngramSpeculationLength"))) == shown


async def test_a_name_is_taken_once(admin: Fireworks) -> None:
    with pytest.raises(fireworks.ConflictError):
        await asyncio.to_thread(admin.deployments.create, base_model=ASLEEP_MODEL, deployment_id="asleep-deployment")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "baseModel"),
        ({"minReplicaCount": -1}, "minReplicaCount"),
        ({"maxReplicaCount": 2**31}, "maxReplicaCount"),
        ({"minReplicaCount": "1"}, "minReplicaCount"),
        ({"precision": "FP8"}, "precision"),
        ({"acceleratorType": "AMD_MI300X_192GB"}, "acceleratorType"),
        ({"maxContextLength": 100_000}, "maxContextLength"),
        ({"autoscalingPolicy": {"scaleUpWindow": "30s"}}, "autoscalingPolicy"),
        ({"deploymentShape": "default"}, "deploymentShape"),
        ({"draftTokenCount": 4}, "draftTokenCount"),
        ({"enableAddons": True}, "enableAddons"),
        ({"placement": {"region": "US_IOWA_1"}}, "placement.region"),
        ({"placement": {"multiRegion": "EUROPE"}}, "placement.multiRegion"),
        ({"placement": {"regions": ["LOCAL", "US_OHIO_1"]}}, "placement.regions"),
    ],
)
async def test_a_field_at_fault_is_named(api: Api, body: dict[str, Any], param: str) -> None:
    body = body and {"baseModel": READY_MODEL, **body}
    async with api.session.post(DEPLOYMENTS, json=body, headers=api.bearer()) as response:
        answer = await response.json()
        assert (response.status, answer["code"]) == (400, 3)
        assert answer["message"].startswith(f"{param}: ")
        assert answer["details"][0]["fieldViolations"][0]["field"] == param


@pytest.mark.parametrize(
    "neutral",
    [
        {"placement": {"multiRegion": "GLOBAL"}},
        {"placement": {"region": "LOCAL", "multiRegion": "MULTI_REGION_UNSPECIFIED", "regions": []}},
        {"placement": None, "precision": "PRECISION_UNSPECIFIED", "acceleratorType": "ACCELERATOR_TYPE_UNSPECIFIED"},
        {"acceleratorCount": 0, "maxContextLength": 0, "draftTokenCount": 0, "enableAddons": False, "draftModel": ""},
        {
            "autoTune": {"longPrompt": False},
            "directRouteType": "DIRECT_ROUTE_TYPE_UNSPECIFIED",
            "autoscalingPolicy": {},
        },
        {"state": "DELETED", "desiredReplicaCount": 9, "name": "accounts/other/deployments/x", "acceptLater": [1]},
    ],
)
async def test_what_asks_for_nothing_is_no_obstacle(api: Api, neutral: dict[str, Any]) -> None:
    body = {"baseModel": READY_MODEL, **neutral}
    async with api.session.post(f"{DEPLOYMENTS}?deploymentId=d", json=body, headers=api.bearer()) as response:
        answer = await response.json()
        assert response.status == 200, answer
        assert (answer["name"], answer["state"]) == ("accounts/hearth/deployments/d", "CREATING")
        assert (answer["acceleratorCount"], answer["region"]) == (1, "LOCAL")
        assert "precision" not in answer


async def test_zero_replicas_at_most_is_meant(api: Api) -> None:
    body = {"baseModel": READY_MODEL, "maxReplicaCount": 0}
    async with api.session.post(f"{DEPLOYMENTS}?validateOnly=true", json=body, headers=api.bearer()) as response:
        answer = await response.json()
        assert (answer["maxReplicaCount"], answer["desiredReplicaCount"]) == (0, 0)


async def test_a_flag_that_is_neither_true_nor_false_is_refused(api: Api) -> None:
    url = f"{DEPLOYMENTS}/asleep-deployment?hard=perhaps"
    async with api.session.delete(url, headers=api.bearer()) as response:
        assert response.status == 400
    async with api.session.get(f"{DEPLOYMENTS}/asleep-deployment", headers=api.bearer()) as response:
        assert response.status == 200


# ---- rendering


def deployment(desired: int = 3, state: DeploymentState = DeploymentState.CREATING, message: str = "") -> Deployment:
    return Deployment(
        account_id="hearth",
        id="d",
        base_model=READY_MODEL,
        state=state,
        status_message=message,
        desired_replica_count=desired,
        created_at=1.0,
        updated_at=2.0,
    )


def replica(index: int, state: ReplicaState, progress: LoadProgress | None = None) -> ReplicaView:
    return ReplicaView(
        index=index,
        state=state,
        reason="",
        device_id="simulated-0",
        reserved_bytes=1,
        pid=1,
        num_in_flight=0,
        progress=progress,
        heartbeat=None,
        log_tail=[],
    )


def test_each_desired_replica_is_counted_in_its_stage() -> None:
    replicas = [
        replica(0, ReplicaState.READY),
        replica(1, ReplicaState.LOADING),
        replica(2, ReplicaState.FAILED),
        replica(4, ReplicaState.STARTING),
        replica(7, ReplicaState.READY),
    ]
    answer = render_deployment(deployment(desired=5), replicas, "LOCAL")
    stats = answer.replica_stats
    assert (stats.ready_replica_count, stats.initializing_replica_count) == (1, 2)
    assert stats.pending_scheduling_replica_count == 1, "number 3 has no place yet; number 7 is one too many"
    assert (answer.replica_count, answer.desired_replica_count) == (1, 5)


def test_the_status_says_what_is_in_the_way() -> None:
    waiting = render_deployment(deployment(message="needs 31 GiB, free 27 GiB"), [], "LOCAL")
    assert (waiting.status.code, waiting.status.message) == ("RESOURCE_EXHAUSTED", "needs 31 GiB, free 27 GiB")
    failed = render_deployment(deployment(state=DeploymentState.FAILED, message="replica 0 failed"), [], "LOCAL")
    assert (failed.status.code, failed.status.message) == ("INTERNAL", "replica 0 failed")
    progress = LoadProgress(stage="weights", fraction=0.456)
    loading = render_deployment(deployment(desired=1), [replica(0, ReplicaState.LOADING, progress)], "LOCAL")
    assert (loading.status.code, loading.status.message) == ("OK", "replica 0: weights 46%")
