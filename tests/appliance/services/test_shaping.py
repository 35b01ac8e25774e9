import msgspec
import pytest

from appliance.config import IdentitySettings
from appliance.domain import DeploymentShape, Precision, Principal, Role, ShapePreset
from appliance.errors import Code, HearthError
from appliance.services.deployment_spec import DeploymentSpec
from appliance.services.shaping import NamedShape, parse_shape_name, shaped_spec, take_over_shape
from appliance.store import deployment_shapes
from appliance.store.database import Database

SHAPE = DeploymentShape(
    account_id="acme",
    id="big",
    number=3,
    base_model="accounts/acme/models/poet",
    preset=ShapePreset.FAST,
    accelerator_count=2,
    precision=Precision.BF16,
    enable_addons=True,
    created_at=1.0,
    updated_at=1.0,
)
SPEC = DeploymentSpec(base_model="poet", shape="big")
ADA = Principal(account_id="acme", user_id="ada", key_id="k", role=Role.USER)
EVE = Principal(account_id="globex", user_id="eve", key_id="k", role=Role.USER)


def test_a_shape_is_named_in_full_by_version_or_by_its_id() -> None:
    assert parse_shape_name("big", "acme") == NamedShape("acme", "big", None)
    assert parse_shape_name("accounts/x/deploymentShapes/big", "acme") == NamedShape("x", "big", None)
    assert parse_shape_name("accounts/x/deploymentShapes/big/versions/v12", "acme") == NamedShape("x", "big", 12)
    for text in ("", "Big!", "accounts/x/models/big", "accounts/x/deploymentShapes/big/versions/latest"):
        assert parse_shape_name(text, "acme") is None, text


def test_what_is_not_said_is_taken_over() -> None:
    shaped = shaped_spec(SPEC, SHAPE)
    assert (shaped.accelerator_count, shaped.precision, shaped.enable_addons) == (2, Precision.BF16, True)
    assert shaped.shape == "accounts/acme/deploymentShapes/big/versions/v3"
    assert shaped.shape_preset is ShapePreset.FAST


def test_what_is_said_otherwise_is_refused_by_name_or_goes_first() -> None:
    other = msgspec.structs.replace(SPEC, precision=Precision.FP32)
    with pytest.raises(HearthError, match=r"^precision: FP32 differs from what .*/v3 says") as error:
        shaped_spec(other, SHAPE)
    assert (error.value.code, error.value.param) == (Code.INVALID, "precision")
    assert shaped_spec(other, SHAPE, skips_check=True).precision is Precision.FP32
    same = msgspec.structs.replace(SPEC, precision=Precision.BF16)
    assert shaped_spec(same, SHAPE).precision is Precision.BF16


async def test_a_preset_goes_before_an_own_shape_of_that_name(database: Database, settings: IdentitySettings) -> None:
    async with database.transaction() as tx:
        await deployment_shapes.insert(tx, msgspec.structs.replace(SHAPE, id="fast"))
        await deployment_shapes.insert(tx, SHAPE)
        named_fast = msgspec.structs.replace(SPEC, shape="fast")
        taken = await take_over_shape(tx.connection, ADA, named_fast, settings)
        assert taken.shape == "accounts/library/deploymentShapes/fast/versions/v1"
        assert (await take_over_shape(tx.connection, ADA, SPEC, settings)).accelerator_count == 2
        bare = msgspec.structs.replace(SPEC, shape=None, shape_preset=ShapePreset.MINIMAL)
        assert (await take_over_shape(tx.connection, ADA, bare, settings)).shape_preset is None


async def test_a_shape_is_for_one_model(database: Database, settings: IdentitySettings) -> None:
    async with database.transaction() as tx:
        await deployment_shapes.insert(tx, SHAPE)
        other = msgspec.structs.replace(SPEC, base_model="singer")
        with pytest.raises(HearthError, match="is for accounts/acme/models/poet"):
            await take_over_shape(tx.connection, ADA, other, settings)
        skipped = await take_over_shape(tx.connection, ADA, other, settings, skips_check=True)
        assert skipped.base_model == "singer"


async def test_of_other_accounts_only_what_is_public_can_be_used(
    database: Database, settings: IdentitySettings
) -> None:
    named = DeploymentSpec(base_model="accounts/acme/models/poet", shape=SHAPE.name)
    async with database.transaction() as tx:
        await deployment_shapes.insert(tx, SHAPE)
        with pytest.raises(HearthError) as error:
            await take_over_shape(tx.connection, EVE, named, settings)
        assert (error.value.code, error.value.param) == (Code.NOT_FOUND, "deploymentShape")
        await deployment_shapes.set_public(tx, SHAPE, True)
        assert (await take_over_shape(tx.connection, EVE, named, settings)).shape == SHAPE.version_name


async def test_what_is_no_shape_at_all_is_refused_with_those_there_are(
    database: Database, settings: IdentitySettings
) -> None:
    async with database.reader() as db:
        for text in ("huge", "accounts/library/deploymentShapes/huge", "a b"):
            with pytest.raises(HearthError, match="is no shape of this box; there is fast") as error:
                await take_over_shape(db, ADA, msgspec.structs.replace(SPEC, shape=text), settings)
            assert error.value.code is Code.INVALID
