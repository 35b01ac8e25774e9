from typing import Any

from appliance.cli.fleet import device_line, memory, until
from appliance.sdk.fleet import Device, FleetReplica
from tests.appliance.cli.conftest import Hearth

GIB = 2**30


def test_ps_shows_replicas_with_their_device_memory_and_time(hearth: Hearth, model_id: str) -> None:
    created = hearth("create", "deployment", model_id, "--deployment-id", "seen", "--min-replica-count", "1", "--wait")
    assert created.exit_code == 0, created.err
    shown = hearth("ps")
    assert shown.exit_code == 0, shown.err
    heading, *rows = shown.out.splitlines()
    assert heading.split() == ["REPLICA", "MODEL", "DEVICE", "MEMORY", "STATE", "IDLE", "UNTIL"]
    (row,) = [row for row in rows if row.startswith("seen/0 ")]
    assert f" {model_id} " in row
    assert " READY " in row
    assert "simulated-" in row
    assert row.endswith("minReplicaCount 1")
    answer: Any = hearth("ps", "-o", "json").json
    (replica,) = [replica for replica in answer["replicas"] if replica["name"].endswith("/deployments/seen/0")]
    assert replica["reservedBytes"] > 0
    assert hearth("delete", "deployment", "seen", "--wait").exit_code == 0
    assert "seen/0" not in hearth("ps").out


def test_explain_says_that_nothing_is_missing_or_that_there_is_no_such_deployment(
    hearth: Hearth, model_id: str
) -> None:
    created = hearth("create", "deployment", model_id, "--deployment-id", "fine", "--min-replica-count", "1", "--wait")
    assert created.exit_code == 0, created.err
    explained = hearth("explain", "deployment", "fine")
    assert explained.exit_code == 0, explained.err
    assert "Nothing keeps it from serving." in explained.out
    assert hearth("delete", "deployment", "fine", "--wait").exit_code == 0
    assert hearth("explain", "deployment", "nowhere").exit_code == 1


def test_memory_is_used_of_reserved_or_the_hosts() -> None:
    replica = FleetReplica(name="r", state="READY", reserved_bytes=2 * GIB)
    assert memory(replica) == "2.0 GiB"
    assert memory(FleetReplica(name="r", state="READY", reserved_bytes=2 * GIB, used_bytes=GIB)) == "1.0 GiB of 2.0 GiB"
    assert memory(FleetReplica(name="r", state="ASLEEP", host_bytes=GIB)) == "1.0 GiB of the host"


def test_the_time_left_is_said_in_words() -> None:
    assert until(FleetReplica(name="r", until_time="1970-01-01T01:00:00Z"), now=600.0) == "in 50 min"
    assert until(FleetReplica(name="r", kept_by="busy"), now=0.0) == "busy"
    assert until(FleetReplica(name="r"), now=0.0) == ""


def test_a_device_is_one_line_with_what_its_driver_tells() -> None:
    device = Device(id="GPU-1", accelerator_type="NVIDIA_L4_24GB", memory_bytes=24 * GIB, free_bytes=4 * GIB)
    assert device_line(device) == "GPU-1  NVIDIA_L4_24GB  20.0 GiB of 24.0 GiB"
    busy = Device(id="GPU-1", utilization=0.97, power_watts=71.6, temperature_celsius=64.0)
    assert device_line(busy).endswith("97% busy  72 W  64 °C")
