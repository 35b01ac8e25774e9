import aiosqlite
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import DeploymentState, Origin, Principal, Role
from appliance.services import audit
from appliance.services.retirement import forget_purged
from appliance.services.serverless import deploy_for_request
from appliance.store import audit_logs
from appliance.store.database import Database
from tests.appliance.services.deployment_service import Service
from tests.appliance.services.samples import ADA, deployment, model, put

ORIGIN = Origin(method="CreateModel", request_id="r1", client_address="127.0.0.1", user_agent="test")
ALICE = Principal(account_id="home", user_id="alice", key_id="k1", role=Role.USER, origin=ORIGIN)


async def test_a_row_tells_who_did_what_from_where(database: Database) -> None:
    async with database.transaction() as tx:
        await audit.record(tx, ALICE, "accounts/home/models/m", ["kind", "displayName"])
        rows = list(await tx.connection.execute_fetchall("SELECT * FROM audit_logs"))
    told = dict(rows[0])
    assert (told["account_id"], told["user_id"], told["key_id"]) == ("home", "alice", "k1")
    assert told["method"] == "CreateModel"
    assert (told["resource"], told["fields"]) == ("accounts/home/models/m", '["displayName","kind"]')
    assert (told["client_address"], told["user_agent"], told["request_id"]) == ("127.0.0.1", "test", "r1")
    assert (told["outcome"], told["count"]) == ("OK", 1)


async def test_a_row_is_in_the_log_of_the_resource_not_of_who_did_it(database: Database) -> None:
    async with database.transaction() as tx:
        await audit.record(tx, ALICE, "accounts/library/models/m")
        await audit.record_own_act(tx, "DeleteDeployment", "accounts/other/deployments/d", "unused for 7 days")
        rows = list(await tx.connection.execute_fetchall("SELECT * FROM audit_logs ORDER BY seq"))
    assert [(row["account_id"], row["user_account_id"], row["message"]) for row in rows] == [
        ("library", "home", ""),
        ("other", "", "unused for 7 days"),
    ]


async def test_a_change_that_is_rolled_back_leaves_no_row(database: Database) -> None:
    try:
        async with database.transaction() as tx:
            await audit.record(tx, ALICE, "accounts/home/models/m")
            raise RuntimeError("the change fails")
    except RuntimeError:
        pass
    async with database.reader() as db:
        assert await audit_logs.head(db) == audit_logs.BEGINNING


async def acts(database: Database) -> list[aiosqlite.Row]:
    """What the appliance did by itself."""
    async with database.reader() as db:
        return list(await db.execute_fetchall("SELECT * FROM audit_logs WHERE user_id = '' ORDER BY seq"))


async def test_the_fields_of_a_change_are_named_and_their_values_are_not(
    database: Database, settings: IdentitySettings
) -> None:
    await put(database, model("acme", "poet"))
    service = Service(database, settings)
    await service.create(display_name="very private", scale_up_window_s=60.0)
    await service.update(description="very private", display_name="very private")
    async with database.reader() as db:
        created, updated = await db.execute_fetchall("SELECT * FROM audit_logs ORDER BY seq")
    assert created["fields"] == '["autoscalingPolicy.scaleUpWindow","baseModel","displayName"]'
    assert updated["fields"] == '["description"]', "what was equal was not changed"
    assert "private" not in str([*created, *updated])


async def test_what_the_appliance_does_by_itself_is_told_with_its_reason(
    database: Database, settings: IdentitySettings
) -> None:
    poet, ember = model("acme", "poet"), replace(model("library", "ember"), is_serverless=True)
    await put(database, poet, ember, deployment("acme", "idle", poet.name), deployment("acme", "old", poet.name))
    async with database.reader() as db:
        assert await audit_logs.head(db) == audit_logs.BEGINNING
    await deploy_for_request(database, ADA, ember.name, settings)
    await Service(database, settings).deployments.evict(deployment("acme", "idle", poet.name), 0, "made room")
    async with database.transaction() as tx:
        await tx.connection.execute(
            "UPDATE deployments SET state = ?, purge_at = 1.0 WHERE id = 'old'", (DeploymentState.DELETED,)
        )
        await forget_purged(tx)
    assert [(act["method"], act["resource"], act["message"]) for act in await acts(database)] == [
        ("CreateDeployment", "accounts/library/deployments/ember", "a request came for a serverless model"),
        ("EvictDeployment", "accounts/acme/deployments/idle", "made room"),
        ("PurgeDeployment", "accounts/acme/deployments/old", "it can no longer be undeleted"),
    ]
