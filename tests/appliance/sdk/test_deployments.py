from appliance.sdk.deployments import AutoscalingPolicy, Deployments
from tests.appliance.sdk.recording_transport import RecordingTransport

ANSWER = {"name": "accounts/acme/deployments/d", "baseModel": "accounts/acme/models/m", "fieldOfTomorrow": 1}
D = "/v1/accounts/acme/deployments/d"


def test_a_list_asks_for_every_page() -> None:
    transport = RecordingTransport(
        {"deployments": [{**ANSWER, "name": "a"}, {**ANSWER, "name": "b"}], "nextPageToken": "after-b", "totalSize": 3},
        {"deployments": [{**ANSWER, "name": "c"}], "nextPageToken": ""},
    )
    assert [found.name for found in Deployments(transport).list(show_deleted=True)] == ["a", "b", "c"]
    assert [call.query["pageToken"] for call in transport.calls] == ["", "after-b"]
    assert all(call.query["showDeleted"] is True for call in transport.calls)


def test_create_sends_only_the_fields_that_were_given_in_camel_case() -> None:
    transport = RecordingTransport(ANSWER)
    policy = AutoscalingPolicy(scale_up_window="1s", load_targets={"requests_per_second": 2.0})
    Deployments(transport).create(
        "m", deployment_id="d", min_replica_count=0, precision=None, display_name="D", autoscaling_policy=policy
    )
    (call,) = transport.calls
    assert call.body == {
        "baseModel": "m",
        "minReplicaCount": 0,
        "displayName": "D",
        "autoscalingPolicy": {"scaleUpWindow": "1s", "loadTargets": {"requests_per_second": 2.0}},
    }
    assert call.query["deploymentId"] == "d"
    assert not any(value for name, value in call.query.items() if name != "deploymentId")


def test_an_update_sends_what_is_given_and_null_for_what_goes_back_to_its_default() -> None:
    transport = RecordingTransport(ANSWER)
    Deployments(transport).update("d", max_replica_count=2, expire_time=None)
    (call,) = transport.calls
    assert (call.method, call.path) == ("PATCH", D)
    assert call.body == {"maxReplicaCount": 2, "expireTime": None}


def test_what_else_can_be_asked_has_its_path() -> None:
    transport = RecordingTransport({}, {}, ANSWER, {"message": "out of memory"})
    deployments = Deployments(transport)
    deployments.scale("d", 2)
    deployments.delete("d", hard=True)
    assert deployments.undelete("d").name == ANSWER["name"]
    assert deployments.termination_message("d") == "out of memory"
    assert [(call.method, call.path) for call in transport.calls] == [
        ("PATCH", f"{D}:scale"),
        ("DELETE", D),
        ("POST", f"{D}:undelete"),
        ("GET", f"{D}/terminationMessage"),
    ]


def test_replicas_and_history_are_read() -> None:
    answer = {
        **ANSWER,
        "coldStart": {"stage": "weights", "fraction": 0.5, "etaSeconds": 2.0},
        "replicas": [{"index": 0, "state": "READY", "deviceIds": ["cpu"], "reservedBytes": "1099511627776"}],
        "scalingHistory": [{"time": "t", "fromReplicaCount": 0, "toReplicaCount": 1, "reason": "a request came"}],
    }
    found = Deployments(RecordingTransport(answer)).get("d")
    assert found.cold_start is not None
    assert (found.cold_start.stage, found.cold_start.eta_seconds) == ("weights", 2.0)
    assert (found.replicas[0].device_ids, found.replicas[0].reserved_bytes) == (["cpu"], str(2**40))
    assert (found.scaling_history[0].to_replica_count, found.scaling_history[0].reason) == (1, "a request came")
