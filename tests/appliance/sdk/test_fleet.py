from appliance.sdk.fleet import Node
from tests.appliance.sdk.recording_transport import RecordingTransport

LEASE = {"id": "lent", "deviceIds": ["GPU-1"], "visibleDevices": "GPU-1", "memoryBytes": 7, "keepaliveSeconds": 15.0}


def test_the_fleet_is_read_with_what_the_server_leaves_out() -> None:
    device = {"id": "cpu", "memoryBytes": 8, "freeBytes": 5, "holders": [{"owner": "leases/lent", "memoryBytes": 3}]}
    transport = RecordingTransport({"devices": [device], "replicas": [{"name": "d/0"}], "fieldOfTomorrow": 1})
    fleet = Node(transport).fleet()
    assert (fleet.devices[0].holders[0].memory_bytes, fleet.devices[0].utilization) == (3, None)
    assert (fleet.replicas[0].name, fleet.leases) == ("d/0", [])


def test_an_explanation_is_asked_of_the_deployment() -> None:
    transport = RecordingTransport({"deployment": "d", "reason": "needs 2.0 GiB"})
    assert Node(transport).explain("accounts/other/deployments/d").reason == "needs 2.0 GiB"
    assert transport.calls[0].path == "/v1/accounts/other/deployments/d:explain"


def test_a_lease_is_taken_with_what_was_said_renewed_and_given_back() -> None:
    transport = RecordingTransport(LEASE, LEASE, {})
    node = Node(transport)
    lease = node.lease(7, "2h", command="python", wait_timeout="0s")
    assert (lease.device_ids, lease.keepalive_seconds) == (["GPU-1"], 15.0)
    node.renew(lease.id)
    node.end_lease(lease.id)
    taken, renewed, ended = transport.calls
    assert taken.body == {"memoryBytes": 7, "duration": "2h", "command": "python", "waitTimeout": "0s"}
    assert (renewed.method, renewed.path) == ("POST", "/v1/node/leases/lent:renew")
    assert (ended.method, ended.path) == ("DELETE", "/v1/node/leases/lent")
