import pytest

from appliance.domain import ShapePreset
from appliance.errors import Code, HearthError
from appliance.services.deployment_shapes import SHAPES, find_shape, resolve_shape, shape_name, version_name


@pytest.mark.parametrize(
    ("asked", "preset"),
    [
        ("fast", ShapePreset.FAST),
        ("FAST", ShapePreset.FAST),
        ("throughput", ShapePreset.THROUGHPUT),
        ("minimal", ShapePreset.MINIMAL),
        ("cost", ShapePreset.MINIMAL),
        ("default", ShapePreset.FAST),
        ("accounts/library/deploymentShapes/throughput", ShapePreset.THROUGHPUT),
        ("accounts/library/deploymentShapes/throughput/versions/v1", ShapePreset.THROUGHPUT),
    ],
)
def test_a_shape_is_meant_by_any_of_its_names(asked: str, preset: ShapePreset) -> None:
    assert resolve_shape(asked, "library").preset is preset


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "huge",
        "fast/v1",
        "accounts/acme/deploymentShapes/fast",
        "accounts/library/models/fast",
        "accounts/library/deploymentShapes/huge",
        "accounts/library/deploymentShapes/fast/versions/v9",
    ],
)
def test_any_other_is_refused_with_those_that_there_are(asked: str) -> None:
    with pytest.raises(HearthError, match="fast, minimal, throughput") as caught:
        resolve_shape(asked, "library")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "deploymentShape")


def test_names_lead_back_to_their_shapes_and_every_preset_has_one() -> None:
    assert {shape.preset for shape in SHAPES} == set(ShapePreset)
    for shape in SHAPES:
        assert find_shape(shape.id) is shape
        for name in (shape_name(shape, "library"), version_name(shape, "library")):
            assert resolve_shape(name, "library") is shape
