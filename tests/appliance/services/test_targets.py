import pytest
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import DeployedModelState, Deployment, DeploymentState, ModelState
from appliance.services.targets import Target, find_askable, find_serverless, find_target
from appliance.store import deployed_models
from appliance.store.database import Database
from tests.appliance.services.samples import ADA, GUS, addon, deployed, deployment, model, put

POET = model("acme", "poet")
FAST = deployment("acme", "fast", POET.name)
SLOW = deployment("acme", "slow", POET.name)


async def found(database: Database, settings: IdentitySettings, text: str) -> Deployment | None:
    async with database.reader() as db:
        target = await find_target(db, ADA, text, settings)
    if target is not None:
        assert target.model.name == target.deployment.base_model
    return None if target is None else target.deployment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accounts/acme/models/poet", FAST),
        ("acme/poet", FAST),
        ("poet", FAST),
        ("accounts/acme/deployments/fast", FAST),
        ("accounts/acme/deployments/slow", SLOW),
        ("accounts/acme/deployedModels/on-slow", SLOW),
        ("accounts/acme/models/poet#accounts/acme/deployments/slow", SLOW),
        ("poet#acme/slow", SLOW),
        ("", None),
        ("slow", None),
        ("nomic-ai/nomic-embed-text-v1.5", None),
        ("accounts/acme/models/nothing", None),
        ("accounts/acme/deployments/nothing", None),
        ("accounts/acme/deployedModels/nothing", None),
        ("accounts/acme/models/other#acme/slow", None),
    ],
)
async def test_names_lead_to_the_deployment_they_mean(
    database: Database, settings: IdentitySettings, text: str, expected: Deployment | None
) -> None:
    await put(database, POET, FAST, SLOW, deployed(FAST, "on-fast"), deployed(SLOW, "on-slow", is_default=False))
    await put(database, model("acme", "other"))
    assert await found(database, settings, text) == expected


async def test_a_bare_name_means_ones_own_model_before_the_librarys(
    database: Database, settings: IdentitySettings
) -> None:
    shared = model("library", "poet")
    serving = deployment("library", "serving", shared.name)
    await put(database, shared, serving, deployed(serving, "shared"))
    assert await found(database, settings, "poet") == serving
    await put(database, POET)
    assert await found(database, settings, "poet") == serving  # one's own is not deployed
    await put(database, FAST, deployed(FAST, "own"))
    assert await found(database, settings, "poet") == FAST
    assert await found(database, settings, "library/poet") == serving


async def test_ones_own_deployment_of_a_library_model_comes_before_the_librarys(
    database: Database, settings: IdentitySettings
) -> None:
    shared = model("library", "poet")
    serving = deployment("library", "serving", shared.name)
    own = deployment("acme", "own", shared.name)
    await put(database, shared, serving, deployed(serving, "theirs"), own, deployed(own, "mine"))
    assert await found(database, settings, "accounts/library/models/poet") == own
    assert await found(database, settings, "accounts/library/deployments/serving") == serving


async def test_what_other_accounts_serve_is_out_of_reach(database: Database, settings: IdentitySettings) -> None:
    await put(database, POET, FAST, deployed(FAST, "on-fast"))
    async with database.reader() as db:
        for text in (POET.name, FAST.name, "accounts/acme/deployedModels/on-fast", f"{POET.name}#{FAST.name}", "poet"):
            assert await find_target(db, GUS, text, settings) is None


async def test_a_public_model_is_served_by_ones_own_deployment_only(
    database: Database, settings: IdentitySettings
) -> None:
    public = model("globex", "song", is_public=True)
    theirs = deployment("globex", "theirs", public.name)
    await put(database, public, theirs, deployed(theirs, "theirs"))
    assert await found(database, settings, public.name) is None
    own = deployment("acme", "own", public.name)
    await put(database, own, deployed(own, "mine"))
    assert await found(database, settings, public.name) == own


@pytest.mark.parametrize("state", DeploymentState)
async def test_deployments_serve_until_they_are_deleted(
    database: Database, settings: IdentitySettings, state: DeploymentState
) -> None:
    """Also those that failed: the router says so better than "not found" would."""
    serving = replace(FAST, state=state)
    await put(database, POET, serving, deployed(serving, "on-fast"))
    is_gone = state in (DeploymentState.DELETING, DeploymentState.DELETED)
    for text in (POET.name, FAST.name, "accounts/acme/deployedModels/on-fast"):
        assert await found(database, settings, text) == (None if is_gone else serving)


async def test_a_model_without_a_default_is_reached_by_its_deployments_name_alone(
    database: Database, settings: IdentitySettings
) -> None:
    await put(database, POET, FAST)
    assert await found(database, settings, POET.name) is None
    assert await found(database, settings, FAST.name) == FAST
    leaving = replace(deployed(FAST, "on-fast"), state=DeployedModelState.UNDEPLOYING)
    await put(database, leaving)
    assert await found(database, settings, POET.name) is None
    assert await found(database, settings, leaving.name) is None


async def test_a_public_model_that_is_not_ready_is_not_there(database: Database, settings: IdentitySettings) -> None:
    public = model("globex", "song", is_public=True, state=ModelState.UPLOADING)
    own = deployment("acme", "own", public.name)
    await put(database, public, own, deployed(own, "mine"))
    assert await found(database, settings, public.name) is None


RHYMES = addon("acme", "rhymes", POET)


@pytest.mark.parametrize(
    ("text", "adapter"),
    [
        ("rhymes", "on-slow"),
        ("acme/rhymes", "on-slow"),
        (RHYMES.name, "on-slow"),
        (f"{RHYMES.name}#{SLOW.name}", "on-slow"),
        ("rhymes#acme/fast", "on-fast"),
        ("accounts/acme/deployedModels/on-fast", "on-fast"),
        (SLOW.name, ""),
        (f"poet#{SLOW.name}", ""),
        ("poet", ""),
        ("accounts/acme/deployedModels/base", ""),
    ],
)
async def test_an_addon_is_meant_by_its_own_names_and_the_base_model_by_all_others(
    database: Database, settings: IdentitySettings, text: str, adapter: str
) -> None:
    await put(database, POET, RHYMES, FAST, SLOW, deployed(SLOW, "base"))
    await put(database, deployed(SLOW, "on-slow", model=RHYMES))
    await put(database, deployed(FAST, "on-fast", model=RHYMES, is_default=False))
    name = f"accounts/acme/deployedModels/{adapter}" if adapter else ""
    async with database.reader() as db:
        expected = FAST if adapter == "on-fast" else SLOW
        assert await find_target(db, ADA, text, settings) == Target(expected, POET, name)


async def test_an_addon_that_is_not_deployed_there_is_not_found(database: Database, settings: IdentitySettings) -> None:
    await put(database, POET, RHYMES, FAST, SLOW, deployed(SLOW, "on-slow", model=RHYMES))
    assert await found(database, settings, f"rhymes#{FAST.name}") is None
    async with database.transaction() as tx:
        leaving = replace(deployed(SLOW, "on-slow", model=RHYMES), state=DeployedModelState.UNDEPLOYING)
        await deployed_models.update(tx, leaving)
    for text in ("rhymes", f"rhymes#{SLOW.name}", leaving.name):
        assert await found(database, settings, text) is None


async def test_what_is_served_in_public_is_reached_by_everybody_under_all_its_names(
    database: Database, settings: IdentitySettings
) -> None:
    """Also when the weights themselves are private."""
    await put(database, POET, RHYMES, FAST, deployed(FAST, "base", is_public=True), deployed(FAST, "own", model=RHYMES))
    async with database.reader() as db:
        for text in (POET.name, FAST.name, "accounts/acme/deployedModels/base", f"{POET.name}#{FAST.name}"):
            assert await find_target(db, GUS, text, settings) == Target(FAST, POET)
        for text in (RHYMES.name, "accounts/acme/deployedModels/own", f"{RHYMES.name}#{FAST.name}"):
            assert await find_target(db, GUS, text, settings) is None


async def test_a_default_that_leaves_with_its_deployment_gives_way_to_the_librarys(
    database: Database, settings: IdentitySettings
) -> None:
    shared = model("library", "poet")
    serving = deployment("library", "serving", shared.name)
    own = deployment("acme", "own", shared.name, state=DeploymentState.DELETING)
    await put(database, shared, serving, deployed(serving, "theirs"), own, deployed(own, "mine"))
    assert await found(database, settings, shared.name) == serving


EMBER = replace(model("library", "ember"), is_serverless=True)


@pytest.mark.parametrize(
    ("text", "is_meant"),
    [
        ("ember", True),
        ("library/ember", True),
        (EMBER.name, True),
        ("accounts/library/deployments/ember", True),
        (f"{EMBER.name}#accounts/library/deployments/ember", True),
        ("ember#library/ember", True),
        ("acme/ember", False),
        ("accounts/acme/deployments/ember", False),
        ("poet#library/ember", False),
        ("library/shared", False),
        ("accounts/library/deployedModels/ember", False),
        ("a/b/c", False),
    ],
)
async def test_a_serverless_model_is_meant_by_its_name_and_its_deployments(
    database: Database, settings: IdentitySettings, text: str, is_meant: bool
) -> None:
    await put(database, EMBER, model("library", "shared"), replace(model("acme", "ember"), is_serverless=True))
    async with database.reader() as db:
        assert await find_serverless(db, ADA, text, settings) == (EMBER if is_meant else None)


async def test_a_name_that_leads_nowhere_cannot_be_asked(database: Database, settings: IdentitySettings) -> None:
    await put(database, POET, RHYMES, EMBER)
    async with database.reader() as db:
        assert await find_askable(db, ADA, POET, settings) is None
        assert await find_askable(db, GUS, EMBER, settings) == (EMBER, EMBER.info)
    await put(database, FAST, deployed(FAST, "rhymes", model=RHYMES))
    async with database.reader() as db:
        assert await find_askable(db, ADA, RHYMES, settings) == (RHYMES, POET.info)
