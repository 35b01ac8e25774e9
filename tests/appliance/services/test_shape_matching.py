from pathlib import Path

import msgspec
import pytest

from appliance.config import GIB, Config, IdentitySettings
from appliance.domain import Model, ModelState, Precision
from appliance.errors import Code, HearthError
from appliance.services.deployment_shapes import SHAPES
from appliance.services.shape_matching import DeploymentShapes, ShapeFit, fit
from appliance.store.database import Database
from tests.appliance.services.samples import ADA, GUS, INFO, model, put
from tests.fakes.fake_gpus import fake_device

POET = model("acme", "poet")
L4, H100 = fake_device(0, 24, "NVIDIA_L4_24GB"), fake_device(1, 80, "NVIDIA_H100_80GB")
CONFIG = Config(data_dir=Path("nowhere"), identity=IdentitySettings(account_id="home", library_account_id="library"))


def fits(subject: Model, *, enable_addons: bool = False) -> dict[str, ShapeFit]:
    found = [fit(shape, subject, CONFIG, [L4, H100], enable_addons=enable_addons) for shape in SHAPES]
    return {each.shape.id: each for each in found if each is not None}


def test_each_shape_takes_its_share_of_the_device_that_fits() -> None:
    found = fits(POET)
    assert found["minimal"].num_bytes < found["fast"].num_bytes < found["throughput"].num_bytes
    assert found["minimal"].accelerator_type == L4.accelerator_type, "the tightest"
    assert (found["throughput"].accelerator_type, found["throughput"].num_bytes) == (H100.accelerator_type, 80 * GIB)
    assert (found["fast"].precision, found["fast"].max_context_length) == (Precision.FP32, INFO.max_context_length)


def test_a_large_model_is_placed_on_the_large_device_or_nowhere() -> None:
    large = msgspec.structs.replace(POET, info=msgspec.structs.replace(INFO, num_parameters=10 * 2**30))
    assert {each.accelerator_type for each in fits(large).values()} == {H100.accelerator_type}
    huge = msgspec.structs.replace(POET, info=msgspec.structs.replace(INFO, num_parameters=1000 * 2**30))
    assert fits(huge) == {}
    assert fits(model("acme", "draft", state=ModelState.UPLOADING)) == {}


def test_addons_take_room_of_their_own() -> None:
    assert fits(POET, enable_addons=True)["minimal"].num_bytes >= fits(POET)["minimal"].num_bytes
    assert fits(POET, enable_addons=True)["minimal"].enable_addons


async def test_a_model_is_matched_as_its_caller_sees_it_and_an_addon_by_its_base(database: Database) -> None:
    addon = msgspec.structs.replace(model("acme", "rhymes"), info=None, base_model=POET.name)
    await put(database, POET, addon)
    shapes = DeploymentShapes(database, CONFIG, [L4, H100])
    for name in ("poet", addon.name):
        found = await shapes.match(ADA, "acme", name, "targetModel", enable_addons=False)
        assert {each.model.name for each in found} == {POET.name}
    with pytest.raises(HearthError) as caught:
        await shapes.match(GUS, "globex", POET.name, "targetModel", enable_addons=False)
    assert (caught.value.code, caught.value.param) == (Code.NOT_FOUND, "targetModel")
