"""Deployments through the real `fireworks` package and through plain HTTP."""

import asyncio
from typing import Any

import fireworks
import pytest
from fireworks import Fireworks

from appliance.domain import Role
from appliance.orchestrator.group import ReplicaCounts
from appliance.store import deployments
from tests.appliance.api.conftest import ASLEEP_MODEL, READY_MODEL, Api

DEPLOYMENTS = "/v1/accounts/hearth/deployments"
SCHEDULE = {"minReplicaCount": 1, "schedule": "0 8 * * 1-5", "duration": "9h", "timezone": "Europe/Berlin"}
OPTIONS: dict[str, Any] = {
    "displayName": "Blue",
    "description": "for the shop",
    "annotations": {"team": "shop"},
    "minReplicaCount": 1,
    "maxReplicaCount": 2,
    "acceleratorType": "NVIDIA_H100_80GB",
    "acceleratorCount": 2,
    "precision": "FP16",
    "maxContextLength": 256,
    "enableSessionAffinity": False,
    "kvCacheFraction": 0.25,
    "pinned": True,
    "neverEvicts": True,
    "unusedAutoDeleteDuration": "0s",
    "expireTime": "2199-01-01T00:00:00.000000Z",
    "autoscalingPolicy": {
        "scaleUpWindow": "1s",
        "scaleDownWindow": "90s",
        "scaleToZeroWindow": "5400s",
        "loadTargets": {"concurrent_requests": 7.0},
        "scalingSchedules": {"mornings": {**SCHEDULE, "duration": "32400s", "description": "open", "disabled": True}},
    },
}
"""In the form of the answer."""


async def report(api: Api, deployment_id: str, counts: ReplicaCounts, message: str = "", last_words: str = "") -> None:
    """What the supervisor would tell."""
    async with api.services.node.database.reader() as db:
        deployment = await deployments.get(db, "hearth", deployment_id)
    assert deployment is not None
    await api.services.deployments.observe(deployment, counts, message, last_words)


async def call(api: Api, method: str, path: str, body: object = None, role: Role = Role.USER) -> Any:
    """The answer's body, which must be a success."""
    async with api.session.request(method, f"{DEPLOYMENTS}{path}", json=body, headers=api.bearer(role)) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def refusal(api: Api, method: str, path: str, body: object = None) -> str:
    """The field at fault of a 400."""
    async with api.session.request(method, f"{DEPLOYMENTS}{path}", json=body, headers=api.bearer()) as response:
        answer = await response.json()
        assert (response.status, answer["code"]) == (400, 3), answer
        return str(answer["details"][0]["fieldViolations"][0]["field"])


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
        ({"precision": "FP4"}, "precision"),
        ({"acceleratorType": "AMD_MI300X_192GB"}, "acceleratorType"),
        ({"maxContextLength": 100_000}, "maxContextLength"),
        ({"autoscalingPolicy": {"scaleUpWindow": "soon"}}, "autoscalingPolicy.scaleUpWindow"),
        ({"autoscalingPolicy": {"scaleDownWindow": "2h"}}, "autoscalingPolicy.scaleDownWindow"),
        ({"autoscalingPolicy": {"scaleToZeroWindow": "299s"}}, "autoscalingPolicy.scaleToZeroWindow"),
        ({"autoscalingPolicy": {"loadTargets": {"gpu_heat": 1}}}, "autoscalingPolicy.loadTargets"),
        ({"autoscalingPolicy": {"loadTargets": {"default": 2}}}, "autoscalingPolicy.loadTargets.default"),
        (
            {"autoscalingPolicy": {"scalingSchedules": {"x": {**SCHEDULE, "schedule": "at eight"}}}},
            "autoscalingPolicy.scalingSchedules.x.schedule",
        ),
        (
            {"autoscalingPolicy": {"scalingSchedules": {"x": {**SCHEDULE, "timezone": "Atlantis"}}}},
            "autoscalingPolicy.scalingSchedules.x.timezone",
        ),
        ({"unusedAutoDeleteDuration": "-1s"}, "unusedAutoDeleteDuration"),
        ({"expireTime": "2001-01-01T00:00:00Z"}, "expireTime"),
        ({"expireTime": "tomorrow"}, "expireTime"),
        ({"acceleratorCount": 3}, "acceleratorCount"),
        ({"deploymentShape": "huge"}, "deploymentShape"),
        ({"kvCacheFraction": 1.5}, "kvCacheFraction"),
        ({"draftTokenCount": 4}, "draftTokenCount"),
        ({"enableMtp": True}, "enableMtp"),
        ({"enableHotLoad": True}, "enableHotLoad"),
        ({"directRouteType": "INTERNET"}, "directRouteType"),
        ({"autoTune": {"longPrompt": True}}, "autoTune"),
        ({"cluster": "theirs"}, "cluster"),
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


async def test_every_option_is_kept_and_shown_as_it_was_asked_for(api: Api) -> None:
    created = await call(api, "POST", "?deploymentId=blue", {"baseModel": READY_MODEL, **OPTIONS})
    assert {name: created[name] for name in OPTIONS} == OPTIONS
    green = await call(api, "POST", "?deploymentId=green", {"baseModel": READY_MODEL, "enableAddons": True})
    assert green["enableAddons"]
    found = await call(api, "GET", "/blue")
    assert {name: found[name] for name in OPTIONS} == OPTIONS
    assert found["revision"] == 1


async def test_durations_are_read_in_any_spelling(api: Api) -> None:
    policy = {"scaleUpWindow": "1.5s", "scaleDownWindow": "10m", "scaleToZeroWindow": "1h30m"}
    body = {"baseModel": READY_MODEL, "autoscalingPolicy": policy, "unusedAutoDeleteDuration": "168h0m0s"}
    answer = await call(api, "POST", "?validateOnly=true", body)
    shown = answer["autoscalingPolicy"]
    assert (shown["scaleUpWindow"], shown["scaleDownWindow"], shown["scaleToZeroWindow"]) == ("1.5s", "600s", "5400s")
    assert answer["unusedAutoDeleteDuration"] == "604800s"
    assert shown["loadTargets"] == {"default": 0.8}


async def test_a_shape_is_shown_as_its_version(api: Api) -> None:
    for asked, shown in (
        ("default", "fast"),
        ("cost", "minimal"),
        ("accounts/fireworks/deploymentShapes/throughput", "throughput"),
    ):
        body = {"baseModel": READY_MODEL, "deploymentShape": asked}
        answer = await call(api, "POST", "?validateOnly=true&skipShapeValidation=true", body)
        assert answer["deploymentShape"] == f"accounts/fireworks/deploymentShapes/{shown}/versions/v1"
    path = "?validateOnly=true&acceptShapelessRisk=true"
    assert await refusal(api, "POST", path, body) == "acceptShapelessRisk"
    for name in ("skipShapeValidation", "skipImageTagValidation", "acceptShapelessRisk"):
        assert await refusal(api, "POST", f"?{name}=perhaps", body) == name


async def test_present_fields_are_updated_and_no_others(api: Api) -> None:
    await call(api, "POST", "?deploymentId=blue", {"baseModel": READY_MODEL, **OPTIONS})
    change = {"baseModel": READY_MODEL, "displayName": "", "autoscalingPolicy": {"scaleUpWindow": "2s"}, "state": "X"}
    changed = await call(api, "PATCH", "/blue", change)
    policy = {**OPTIONS["autoscalingPolicy"], "scaleUpWindow": "2s"}
    expected = {**OPTIONS, "displayName": "", "autoscalingPolicy": policy}
    assert {name: changed[name] for name in OPTIONS} == expected
    assert changed["revision"] == 1
    reset = await call(api, "PATCH", "/blue", {"kvCacheFraction": 0, "expireTime": None, "neverEvicts": False})
    assert "kvCacheFraction" not in reset
    assert "expireTime" not in reset
    assert (reset["neverEvicts"], reset["revision"]) == (False, 2)


async def test_what_was_read_can_be_sent_back(api: Api) -> None:
    await call(api, "POST", "?deploymentId=blue", {"baseModel": READY_MODEL, "deploymentShape": "fast", **OPTIONS})
    found = await call(api, "GET", "/blue")
    again = await call(api, "PATCH", "/blue", found)
    assert {**again, "updateTime": ""} == {name: found[name] for name in again} | {"updateTime": ""}


async def test_a_mask_says_what_is_updated_in_either_spelling(api: Api) -> None:
    await call(api, "POST", "?deploymentId=blue", {"baseModel": READY_MODEL, **OPTIONS})
    body = {"displayName": "Green", "description": "not meant", "autoscalingPolicy": {"scaleUpWindow": "9s"}}
    masked = await call(api, "PATCH", "/blue?updateMask=display_name,max_replica_count", body)
    assert (masked["displayName"], masked["description"], masked["maxReplicaCount"]) == ("Green", "for the shop", 1)
    assert masked["autoscalingPolicy"] == OPTIONS["autoscalingPolicy"]
    masked = await call(api, "PATCH", "/blue?updateMask=autoscalingPolicy.scale_up_window", body)
    assert masked["autoscalingPolicy"] == {**OPTIONS["autoscalingPolicy"], "scaleUpWindow": "9s"}
    masked = await call(api, "PATCH", "/blue?updateMask=autoscaling_policy", body)
    assert masked["autoscalingPolicy"]["scaleDownWindow"] == "600s"
    masked = await call(api, "PATCH", "/blue?updateMask=*", {})
    assert (masked["displayName"], masked["minReplicaCount"], masked["pinned"]) == ("", 0, False)
    assert await refusal(api, "PATCH", "/blue?updateMask=state", body) == "updateMask"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"baseModel": READY_MODEL}, "baseModel"),
        ({"placement": {"region": "US_IOWA_1"}}, "placement.region"),
        ({"minReplicaCount": 2}, "maxReplicaCount"),
        ({"enableMtp": True}, "enableMtp"),
        ({"autoscalingPolicy": {"scaleToZeroWindow": "1s"}}, "autoscalingPolicy.scaleToZeroWindow"),
        ({"deploymentShape": "huge"}, "deploymentShape"),
    ],
)
async def test_an_update_that_cannot_be_names_its_field(api: Api, body: dict[str, Any], param: str) -> None:
    assert await refusal(api, "PATCH", "/asleep-deployment", body) == param


async def test_an_update_is_tried_without_doing_it(api: Api) -> None:
    would_be = await call(api, "PATCH", "/asleep-deployment?validateOnly=true", {"precision": "FP16"})
    assert (would_be["precision"], would_be["revision"]) == ("FP16", 2)
    assert "precision" not in await call(api, "GET", "/asleep-deployment")


async def test_a_deleted_deployment_is_undeleted(api: Api, admin: Fireworks) -> None:
    await call(api, "POST", "?deploymentId=blue", {"baseModel": READY_MODEL, "minReplicaCount": 1})
    await call(api, "DELETE", "/blue")
    await report(api, "blue", counts(0))
    back = await asyncio.to_thread(admin.deployments.undelete, "blue", body={})
    assert (back.state, back.desired_replica_count) == ("CREATING", 1)
    assert (await call(api, "GET", "/blue"))["state"] == "CREATING"
    async with api.session.post(f"{DEPLOYMENTS}/blue:undelete", json={}, headers=api.bearer()) as response:
        assert (await response.json())["code"] == 9


async def test_the_history_of_scaling_is_told_with_one_deployment_to_those_it_belongs_to(api: Api) -> None:
    await call(api, "PATCH", "/asleep-deployment:scale", {"replicaCount": 1})
    found = await call(api, "GET", "/asleep-deployment")
    (decision,) = found["scalingHistory"]
    assert (decision["fromReplicaCount"], decision["toReplicaCount"]) == (0, 1)
    assert decision["reason"]
    assert found["replicas"] == []
    (listed,) = (await call(api, "GET", ""))["deployments"]
    assert not {"scalingHistory", "replicas"} & set(listed)
    library = "/../../fireworks/deployments/tiny-deployment"
    async with api.session.get(f"{DEPLOYMENTS}{library}", headers=api.bearer()) as response:
        assert not {"scalingHistory", "replicas"} & set(await response.json())
    async with api.session.get(f"{DEPLOYMENTS}{library}", headers=api.bearer(Role.ADMIN)) as response:
        assert "scalingHistory" in await response.json(), "this box's administrators keep the library"


async def test_the_last_words_of_a_failed_worker_are_told_to_those_it_belongs_to(api: Api) -> None:
    assert await call(api, "GET", "/asleep-deployment/terminationMessage") == {"message": ""}
    await call(api, "PATCH", "/asleep-deployment:scale", {"replicaCount": 1})
    failed = ReplicaCounts(wanted=1, ready=0, starting=0, waiting=0, failed=1)
    await report(api, "asleep-deployment", failed, "replica 0 failed", "out of memory")
    assert await call(api, "GET", "/asleep-deployment/terminationMessage") == {"message": "out of memory"}
    library = "/v1/accounts/fireworks/deployments/tiny-deployment/terminationMessage"
    async with api.session.get(library, headers=api.bearer()) as response:
        assert response.status == 403


async def test_the_box_is_the_one_shard(api: Api) -> None:
    answer = await call(api, "GET", "/asleep-deployment/shards")
    (shard,) = answer["deploymentShards"]
    assert shard["name"] == "accounts/hearth/deployments/asleep-deployment/shards/local"
    assert (shard["state"], shard["replicaStats"]["readyReplicaCount"], answer["totalSize"]) == ("READY", 0, 1)


async def test_lists_are_filtered(api: Api, admin: Fireworks) -> None:
    await call(api, "POST", "?deploymentId=blue", {"baseModel": READY_MODEL, "displayName": "Blue"})

    def ids(text: str) -> list[str]:
        return [str(found.name).rpartition("/")[2] for found in admin.deployments.list(filter=text)]

    assert await asyncio.to_thread(ids, f'display_name="Blue" AND base_model="{READY_MODEL}"') == ["blue"]
    assert await asyncio.to_thread(ids, 'state="READY"') == ["asleep-deployment"]
    assert await refusal(api, "GET", "?filter=colour%3Dblue") == "filter"
