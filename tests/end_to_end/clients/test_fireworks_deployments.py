"""The `fireworks-ai` package, 1.x: deployments and their shapes. Held at zero replicas, they start no worker."""

from collections.abc import Callable, Iterator
from typing import Any

import fireworks
import pytest
from fireworks import Fireworks

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, wait_until


@pytest.fixture(scope="module")
def client(daemon: DaemonProcess) -> Iterator[Fireworks]:
    with Fireworks(base_url=daemon.base_url, api_key=daemon.api_key, account_id="hearth", max_retries=0) as client:
        yield client


def create(client: Fireworks, deployment_id: str, **fields: Any) -> Any:
    return client.deployments.create(base_model=EMBER, deployment_id=deployment_id, max_replica_count=0, **fields)


def is_gone(client: Fireworks, deployment_id: str) -> bool:
    try:
        client.deployments.get(deployment_id)
    except fireworks.NotFoundError:
        return True
    return False


def is_in(client: Fireworks, deployment_id: str, state: str) -> Callable[[], bool]:
    return lambda: client.deployments.get(deployment_id).state == state


def test_a_deployment_is_created_found_changed_deleted_and_brought_back(client: Fireworks) -> None:
    policy: Any = {
        "scale_up_window": "1s",
        "scale_down_window": "60s",
        "scale_to_zero_window": "10m",
        "load_targets": {"default": 0.5},
    }
    created = create(client, "flow-12", display_name="Flow", autoscaling_policy=policy, enable_session_affinity=True)
    assert created.name == "accounts/hearth/deployments/flow-12"
    wait_until(is_in(client, "flow-12", "READY"), 20, "READY at zero replicas")

    create(client, "flow-12-too")
    listed = [str(each.name) for each in client.deployments.list(page_size=1, filter=f'base_model="{EMBER}"')]
    assert [name.rpartition("/")[2] for name in listed][-2:] == ["flow-12", "flow-12-too"]
    (named,) = client.deployments.list(filter='display_name="Flow" AND state="READY"')
    assert named.autoscaling_policy is not None
    assert named.autoscaling_policy.scale_to_zero_window == "600s"

    client.deployments.update("flow-12", base_model=EMBER, max_replica_count=2, description="changed")
    client.deployments.scale("flow-12", replica_count=0)
    changed = client.deployments.get("accounts/hearth/deployments/flow-12")
    assert (changed.max_replica_count, changed.description, changed.display_name) == (2, "changed", "Flow")
    with pytest.raises(fireworks.BadRequestError, match="replicaCount"):
        client.deployments.scale("flow-12", replica_count=3)

    for deployment_id in ("flow-12", "flow-12-too"):
        client.deployments.delete(deployment_id, ignore_checks=True)
        wait_until(lambda name=deployment_id: is_gone(client, name), 20, "gone")  # type: ignore[misc]
    deleted = {str(each.name): each for each in client.deployments.list(show_deleted=True)}
    assert deleted[created.name].state == "DELETED"
    assert deleted[created.name].purge_time is not None
    back = client.deployments.undelete("flow-12", body={})
    assert (back.state, back.desired_replica_count, back.description) == ("READY", 0, "changed")
    client.deployments.delete("flow-12", hard=True)
    wait_until(lambda: is_gone(client, "flow-12"), 20, "purged")
    assert created.name not in {each.name for each in client.deployments.list(show_deleted=True)}


def test_a_shape_is_chosen_by_the_server_and_nothing_is_created(client: Fireworks) -> None:
    would_be = create(client, "flow-13", deployment_shape="default", validate_only=True)
    assert would_be.deployment_shape == "accounts/fireworks/deploymentShapes/fast/versions/v1"
    assert is_gone(client, "flow-13")


def test_the_shapes_that_fit_a_model_can_be_asked_for(client: Fireworks) -> None:
    matched = client.deployment_shape_versions.match_for_model(EMBER)
    assert matched.deployment_shape_versions
    for version in matched.deployment_shape_versions:
        assert version.snapshot is not None
        assert version.snapshot.base_model == EMBER
        would_be = create(client, "flow-14", deployment_shape=str(version.name), validate_only=True)
        assert would_be.deployment_shape == version.name
