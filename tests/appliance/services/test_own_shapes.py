from pathlib import Path

import pytest

from appliance.config import Config, IdentitySettings
from appliance.domain import Principal, Role
from appliance.errors import Code, HearthError
from appliance.services.own_shapes import OwnShapes, ShapeSpec
from appliance.store import audit_logs, models
from appliance.store.database import Database
from tests.appliance.services.samples import model
from tests.fakes.fake_gpus import fake_device

ADA = Principal(account_id="acme", user_id="ada", key_id="k", role=Role.USER)
BOB = Principal(account_id="acme", user_id="bob", key_id="k", role=Role.CONTRIBUTOR)
EVE = Principal(account_id="globex", user_id="eve", key_id="k", role=Role.USER)
SPEC = ShapeSpec(base_model="poet", max_context_length=16)
FIELDS = ["base_model", "max_context_length"]


@pytest.fixture
async def shapes(database: Database, settings: IdentitySettings, tmp_path: Path) -> OwnShapes:
    async with database.transaction() as tx:
        await models.insert(tx, model("acme", "poet"))
    return OwnShapes(database, Config(data_dir=tmp_path, identity=settings), [fake_device()])


async def test_a_contributor_changes_his_own_shapes_only(shapes: OwnShapes) -> None:
    await shapes.create(ADA, "acme", "s", SPEC, FIELDS)
    await shapes.create(BOB, "acme", "t", SPEC, FIELDS)
    with pytest.raises(HearthError) as error:
        await shapes.delete(BOB, "acme", "s")
    assert error.value.code is Code.FORBIDDEN
    await shapes.delete(BOB, "acme", "t")
    assert [shape.id for shape in await shapes.list(ADA, "acme")] == ["s"]


async def test_other_accounts_see_what_is_public(shapes: OwnShapes) -> None:
    await shapes.create(ADA, "acme", "s", SPEC, FIELDS)
    await shapes.update(ADA, "acme", "s", ShapeSpec(max_context_length=32), ["max_context_length"])
    with pytest.raises(HearthError) as error:
        await shapes.get(EVE, "acme", "s")
    assert error.value.code is Code.NOT_FOUND
    await shapes.publish(ADA, "acme", "s", 1, True)
    assert (await shapes.get(EVE, "acme", "s")).number == 1
    assert (await shapes.get(ADA, "acme", "s")).number == 2
    assert [shape.number for shape in await shapes.list_versions(EVE, "acme", "s")] == [1]


async def test_the_model_of_a_shape_stays(shapes: OwnShapes) -> None:
    made = await shapes.create(ADA, "acme", "s", SPEC, FIELDS)
    assert made.base_model == "accounts/acme/models/poet"
    same = await shapes.update(ADA, "acme", "s", SPEC, FIELDS)
    assert (same.base_model, same.number) == (made.base_model, 2)
    with pytest.raises(HearthError, match="baseModel: it cannot be changed"):
        await shapes.update(ADA, "acme", "s", ShapeSpec(base_model="singer"), ["base_model"])


async def test_each_change_is_in_the_audit_log(shapes: OwnShapes, database: Database) -> None:
    await shapes.create(ADA, "acme", "s", SPEC, FIELDS)
    await shapes.update(ADA, "acme", "s", ShapeSpec(display_name="S"), ["display_name"])
    await shapes.publish(ADA, "acme", "s", 2, True)
    await shapes.delete(ADA, "acme", "s")
    async with database.reader() as db:
        assert (await audit_logs.head(db)).seq == 4
