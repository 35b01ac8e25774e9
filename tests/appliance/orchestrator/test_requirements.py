from pathlib import Path

import msgspec
import pytest

from appliance.config import GIB
from appliance.domain import ModelState, Precision, Preparation, PreparationState
from appliance.orchestrator.gpus import CPU, Device
from appliance.orchestrator.measurements import Measurements
from appliance.orchestrator.replica import Measurement
from appliance.orchestrator.requirements import Blocked, Requirement, Requirements
from appliance.store import models
from appliance.store.database import Database
from runtime.protocol import Loaded
from tests.appliance.orchestrator.samples import sample_deployment, sample_info, sample_model, sample_settings
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_gpus import fake_device

CPU_DEVICE = Device(id="cpu", index=0, accelerator_type=CPU, memory_bytes=64 * GIB, is_cuda=False)


class Box:
    def __init__(self, database: Database, *devices: Device) -> None:
        self.measurements = Measurements(database, FakeClock())
        self.requirements = Requirements(sample_settings(), database, self.measurements, devices, Path("/models"))

    async def find(self, **changes: object) -> Requirement:
        found = await self.requirements.find(sample_deployment(**changes))
        assert isinstance(found, Requirement)
        return found


async def put_model(database: Database, *names: str) -> None:
    async with database.transaction() as tx:
        for name in names:
            await models.insert(tx, sample_model(name, gigabytes=2))


async def test_it_names_the_models_on_disk_and_what_they_ask_for(database: Database) -> None:
    await put_model(database, "m", "tiny")
    found = await Box(database, fake_device()).find(draft_model="accounts/acme/models/tiny")
    assert found.served.directory == Path("/models/m")
    assert found.draft is not None
    assert found.draft.directory == Path("/models/tiny")
    assert found.demands[0].num_bytes > found.demands[-1].num_bytes > 4 * GIB


async def test_a_precision_may_have_a_checkpoint_of_its_own(database: Database) -> None:
    prepared = msgspec.structs.replace(sample_info(), file_sha256={"model.safetensors": "8"})
    made = Preparation(state=PreparationState.READY, info=prepared)
    model = msgspec.structs.replace(sample_model("m", gigabytes=2), preparations={Precision.FP8: made})
    async with database.transaction() as tx:
        await models.insert(tx, model)
    box = Box(database, fake_device())
    assert (await box.find()).served.directory == Path("/models/m")
    found = await box.find(precision=Precision.FP8)
    assert (found.served.directory, found.served.info) == (Path("/models/m/fp8"), prepared)
    async with database.transaction() as tx:
        await models.update(tx, msgspec.structs.replace(model, preparations={}))
    assert isinstance(await box.requirements.find(sample_deployment(precision=Precision.FP8)), Blocked)


@pytest.mark.parametrize("missing", ["base_model", "draft_model"])
async def test_a_model_that_is_not_there_blocks_until_it_is(database: Database, missing: str) -> None:
    await put_model(database, "m")
    box = Box(database, fake_device())
    deployment = sample_deployment(**{missing: "accounts/acme/models/late"})
    assert await box.requirements.find(deployment) == Blocked("accounts/acme/models/late is not there or not ready")
    await put_model(database, "late")
    assert isinstance(await box.requirements.find(deployment), Requirement)


async def test_a_model_that_is_being_uploaded_blocks(database: Database) -> None:
    async with database.transaction() as tx:
        await models.insert(tx, msgspec.structs.replace(sample_model("m"), state=ModelState.UPLOADING))
    assert isinstance(await Box(database, fake_device()).requirements.find(sample_deployment()), Blocked)


async def test_devices_that_this_box_lacks_block(database: Database) -> None:
    await put_model(database, "m")
    found = await Box(database, fake_device()).requirements.find(sample_deployment(accelerator_count=2))
    assert isinstance(found, Blocked)
    assert "this box has 1" in found.reason


@pytest.mark.parametrize(("device", "is_believed"), [(CPU_DEVICE, True), (fake_device(), False)])
async def test_what_was_measured_takes_the_place_of_the_estimate_unless_the_device_is_simulated(
    database: Database, device: Device, is_believed: bool
) -> None:
    await put_model(database, "m")
    box = Box(database, device)
    before = await box.find()
    loaded = Loaded(
        footprint_bytes=GIB, kv_bytes=GIB // 2, num_blocks=1, block_size=32, max_context_length=64, load_ms={}
    )
    await box.measurements.learn(before.footprint_key, Measurement(loaded, load_s=9.0, is_warm=False))
    after = await box.find()
    assert (after.demands != before.demands) is is_believed
    assert after.footprint is not None
    assert after.footprint.load_s == 9.0
