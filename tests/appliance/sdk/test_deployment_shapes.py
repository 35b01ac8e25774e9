import pytest

from appliance.sdk.deployment_shapes import DeploymentShapes
from tests.appliance.sdk.recording_transport import RecordingTransport

SHAPE = {"name": "accounts/acme/deploymentShapes/s", "memoryBytes": "5"}
VERSION = {"name": "accounts/acme/deploymentShapes/s/versions/v1", "snapshot": SHAPE, "validated": True}
SHAPES = "/v1/accounts/acme/deploymentShapes"


def test_shapes_are_listed_with_the_numbers_that_a_model_would_have() -> None:
    transport = RecordingTransport({"deploymentShapes": [SHAPE]})
    (shape,) = DeploymentShapes(transport).list(target_model="m")
    assert shape.memory_bytes == "5"
    assert (transport.calls[0].path, transport.calls[0].query["targetModel"]) == (SHAPES, "m")


@pytest.mark.parametrize("named", ["s/v1", "s/versions/v1", "accounts/acme/deploymentShapes/s/versions/v1"])
def test_a_version_is_named_within_its_shape_or_in_full(named: str) -> None:
    transport = RecordingTransport(VERSION)
    assert DeploymentShapes(transport).get_version(named).snapshot.name == SHAPE["name"]
    assert transport.calls[0].path == f"{SHAPES}/s/versions/v1"


def test_versions_are_those_of_every_shape_unless_one_is_named() -> None:
    transport = RecordingTransport({"deploymentShapeVersions": [VERSION]}, {"deploymentShapeVersions": []})
    assert [version.validated for version in DeploymentShapes(transport).list_versions()] == [True]
    assert list(DeploymentShapes(transport).list_versions("s")) == []
    assert [call.path for call in transport.calls] == [f"{SHAPES}/-/versions", f"{SHAPES}/s/versions"]


def test_what_fits_a_model_is_asked_as_for_a_deployment_of_it() -> None:
    transport = RecordingTransport({"deploymentShapeVersions": [VERSION]})
    assert len(list(DeploymentShapes(transport).match("m"))) == 1
    call = transport.calls[0]
    assert (call.method, call.path) == ("POST", "/v1/accounts/acme/deploymentShapeVersions:match")
    assert call.body == {"createDeploymentRequest": {"deployment": {"baseModel": "m"}}}
