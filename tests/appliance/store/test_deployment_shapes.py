import msgspec

from appliance.domain import DeploymentShape, Precision, ShapePreset
from appliance.store import deployment_shapes
from appliance.store.database import Database
from tests.appliance.store.samples import insert_account

SHAPE = DeploymentShape(
    account_id="acme",
    id="big",
    number=1,
    display_name="Big",
    base_model="accounts/acme/models/poet",
    preset=ShapePreset.FAST,
    accelerator_count=2,
    precision=Precision.BF16,
    kv_cache_fraction=0.5,
    created_by="ada",
    created_at=1.0,
    updated_at=1.5,
)
SECOND = msgspec.structs.replace(SHAPE, number=2, accelerator_count=4)
OTHER = msgspec.structs.replace(SHAPE, id="a-small-one")


async def test_versions_come_back_as_they_were_the_newest_first(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        for shape in (SHAPE, SECOND, OTHER):
            await deployment_shapes.insert(tx, shape)
    async with database.reader() as db:
        assert await deployment_shapes.get_version(db, "acme", "big", 1) == SHAPE
        assert await deployment_shapes.get_version(db, "acme", "big", 3) is None
        assert await deployment_shapes.list_versions(db, "acme", "big") == [SECOND, SHAPE]
        assert await deployment_shapes.list_in_account(db, "acme") == [OTHER, SECOND, SHAPE]
        assert await deployment_shapes.list_in_account(db, "umbra") == []


async def test_a_version_is_published_and_a_shape_deleted_with_all_of_them(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        for shape in (SHAPE, SECOND, OTHER):
            await deployment_shapes.insert(tx, shape)
        await deployment_shapes.set_public(tx, SHAPE, True)
        found = await deployment_shapes.list_versions(tx.connection, "acme", "big")
        assert [shape.is_public for shape in found] == [False, True]
        await deployment_shapes.delete(tx, "acme", "big")
        assert await deployment_shapes.list_in_account(tx.connection, "acme") == [OTHER]
