from appliance.api.control.deployment_shape_answer import render_own_version, render_preset_version
from appliance.domain import DeploymentShape
from appliance.services.deployment_shapes import SHAPES


def test_a_preset_is_public_and_for_every_model() -> None:
    version = render_preset_version(SHAPES[0], "fireworks")
    assert (version.public, version.validated, version.snapshot.base_model) == (True, True, "")


def test_an_own_version_shows_its_options_and_whether_it_is_the_newest() -> None:
    shape = DeploymentShape(
        account_id="a", id="s", number=2, base_model="m", accelerator_count=3, created_at=0.0, updated_at=1.0
    )
    version = render_own_version(shape, is_newest=False)
    assert version.name == "accounts/a/deploymentShapes/s/versions/v2"
    assert (version.latest_validated, version.public, version.snapshot.accelerator_count) == (False, False, 3)
    assert version.snapshot.preset_type == "PRESET_TYPE_UNSPECIFIED"
