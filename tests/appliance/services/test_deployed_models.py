import asyncio

import pytest
from msgspec.structs import replace

from appliance.config import FleetSettings, IdentitySettings
from appliance.domain import DeployedModel, DeployedModelState, DeploymentState, ModelState, Role
from appliance.errors import Code, HearthError
from appliance.services.deployed_models import DeployedModels, DeployedModelSpec
from appliance.services.serving import bury, restore, undeploy
from appliance.store import deployed_models, deployments
from appliance.store.database import Database
from tests.appliance.services.samples import ADA, GUS, addon, deployed, deployment, model, principal, put

POET, PAINTER = model("acme", "poet"), model("acme", "painter")
RHYMES, HAIKU = addon("acme", "rhymes", POET), addon("acme", "haiku", POET)
BLUE = deployment("acme", "blue", POET.name, enable_addons=True)
PLAIN = deployment("acme", "plain", POET.name)
EASEL = deployment("acme", "easel", PAINTER.name, enable_addons=True)
ADDONS_MAX = 3


class Notices:
    """Counts how often the adapters were to be looked after."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def notices() -> Notices:
    return Notices()


@pytest.fixture
async def service(database: Database, settings: IdentitySettings, notices: Notices) -> DeployedModels:
    await put(database, POET, PAINTER, RHYMES, HAIKU, BLUE, PLAIN, EASEL)
    return DeployedModels(database, settings, FleetSettings(addons_max=ADDONS_MAX, addon_rank_max=16), notices)


def spec(model: str = RHYMES.name, deployment: str | None = BLUE.name, **others: object) -> DeployedModelSpec:
    return DeployedModelSpec(model=model, deployment=deployment, **others)  # type: ignore[arg-type]


async def load(service: DeployedModels, **said: object) -> DeployedModel:
    return await service.create(ADA, "acme", spec(**said))  # type: ignore[arg-type]


async def refusal(attempt: object) -> HearthError:
    with pytest.raises(HearthError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value


async def test_an_addon_is_deployed_under_a_name_of_its_own(service: DeployedModels, notices: Notices) -> None:
    loading = await load(service, display_name="Rhymes", description="for odes", is_public=True)
    assert (loading.model, loading.deployment, loading.state) == (RHYMES.name, BLUE.name, DeployedModelState.DEPLOYING)
    assert (loading.display_name, loading.description, loading.is_public) == ("Rhymes", "for odes", True)
    assert loading.id.startswith("rhymes-")
    assert loading.is_default
    assert notices.count == 1
    assert await service.get(ADA, "acme", loading.id) == loading
    assert await service.list(ADA, "acme") == [loading]


@pytest.mark.parametrize(
    ("model_text", "deployment_text"),
    [("rhymes", "blue"), ("acme/rhymes", "acme/blue"), (RHYMES.name, BLUE.name), ("rhymes", None)],
)
async def test_names_are_understood_in_every_spelling(
    service: DeployedModels, model_text: str, deployment_text: str | None
) -> None:
    """Without a deployment it is the only one that can take the addon."""
    loading = await load(service, model=model_text, deployment=deployment_text)
    assert (loading.model, loading.deployment) == (RHYMES.name, BLUE.name)


async def test_without_a_name_the_deployment_must_be_unmistakable(service: DeployedModels, database: Database) -> None:
    await put(database, replace(BLUE, id="green"))
    refused = await refusal(load(service, deployment=None))
    assert (refused.code, refused.param, "blue, green" in refused.message) == (Code.INVALID, "deployment", True)
    for leaving in (replace(BLUE, state=DeploymentState.DELETING), replace(BLUE, id="green", enable_addons=False)):
        async with database.transaction() as tx:
            await deployments.update(tx, leaving)
    assert "none of" in (await refusal(load(service, deployment=None))).message


@pytest.mark.parametrize(
    ("said", "code", "param"),
    [
        ({"model": "nothing"}, Code.NOT_FOUND, "model"),
        ({"deployment": "nothing"}, Code.NOT_FOUND, "deployment"),
        ({"deployment": "accounts/globex/deployments/blue"}, Code.NOT_FOUND, "deployment"),
        ({"deployment": "a/b/c"}, Code.NOT_FOUND, "deployment"),
        ({"deployment": PLAIN.name}, Code.FAILED_PRECONDITION, "deployment"),
        ({"deployment": EASEL.name}, Code.INVALID, "deployment"),
        ({"model": POET.name, "deployment": EASEL.name}, Code.INVALID, "deployment"),
        ({"model": "wide"}, Code.INVALID, "model"),
        ({"model": "draft"}, Code.FAILED_PRECONDITION, "model"),
        ({"deployment": "leaving"}, Code.FAILED_PRECONDITION, "deployment"),
        ({"display_name": "x" * 64}, Code.INVALID, "displayName"),
        ({"description": "x" * 1001}, Code.INVALID, "description"),
    ],
)
async def test_what_cannot_be_deployed_is_refused_by_its_field(
    service: DeployedModels, database: Database, notices: Notices, said: dict[str, str], code: Code, param: str
) -> None:
    await put(database, addon("acme", "wide", POET, rank=17))
    await put(database, replace(addon("acme", "draft", POET), state=ModelState.UPLOADING, addon_info=None))
    await put(database, replace(BLUE, id="leaving", state=DeploymentState.DELETING))
    refused = await refusal(load(service, **said))
    assert (refused.code, refused.param) == (code, param)
    assert refused.message.startswith(f"{param}: ")
    assert notices.count == 0
    assert await service.list(ADA, "acme") == []


async def test_a_model_is_needed(service: DeployedModels) -> None:
    assert (await refusal(service.create(ADA, "acme", DeployedModelSpec(deployment="blue")))).param == "model"


async def test_a_deployment_serves_a_model_once_also_when_asked_twice_at_a_time(service: DeployedModels) -> None:
    answers = await asyncio.gather(*(load(service) for _ in range(5)), return_exceptions=True)
    (loading,) = [answer for answer in answers if isinstance(answer, DeployedModel)]
    refusals = [answer for answer in answers if isinstance(answer, HearthError)]
    assert {refused.code for refused in refusals} == {Code.CONFLICT}
    assert all(loading.name in refused.message for refused in refusals)


async def test_a_deployment_serves_so_many_addons(service: DeployedModels, database: Database) -> None:
    for number in range(ADDONS_MAX):
        await put(database, addon("acme", f"a{number}", POET))
        await load(service, model=f"a{number}")
    refused = await refusal(load(service))
    assert (refused.code, "undeploy one" in refused.message) == (Code.FAILED_PRECONDITION, True)
    (first, *_) = await service.list(ADA, "acme")
    await service.delete(ADA, "acme", first.id)
    await load(service)


async def test_a_base_model_is_deployed_on_a_deployment_that_does_not_carry_its_name(
    service: DeployedModels, database: Database
) -> None:
    serving = await load(service, model=POET.name)
    assert (serving.state, serving.is_default) == (DeployedModelState.DEPLOYED, True)
    await put(database, replace(BLUE, id="new", state=DeploymentState.CREATING))
    assert (await load(service, model=POET.name, deployment="new")).state is DeployedModelState.DEPLOYING
    # It leaves at once: there is nothing to unload.
    (other,) = [each for each in await service.list(ADA, "acme") if each != serving]
    await service.delete(ADA, "acme", other.id)
    assert await service.list(ADA, "acme") == [serving]


async def test_the_default_moves_to_the_one_that_is_made_it(service: DeployedModels, database: Database) -> None:
    await put(database, replace(BLUE, id="green"), replace(BLUE, id="red"))
    blue, green = await load(service), await load(service, deployment="green")
    red = await load(service, deployment="red", is_default=True)
    assert await defaults(service) == [red.id]
    changed = await service.update(ADA, "acme", green.id, DeployedModelSpec(is_default=True, display_name="Green"))
    assert (changed.is_default, changed.display_name) == (True, "Green")
    assert await defaults(service) == [green.id]
    refused = await refusal(service.update(ADA, "acme", green.id, DeployedModelSpec(is_default=False)))
    assert (refused.code, refused.param) == (Code.INVALID, "default")
    assert await service.update(ADA, "acme", blue.id, DeployedModelSpec(is_default=False))


async def defaults(service: DeployedModels) -> list[str]:
    return [each.id for each in await service.list(ADA, "acme") if each.is_default]


async def test_a_default_is_not_deleted_while_its_model_is_deployed_elsewhere(
    service: DeployedModels, database: Database
) -> None:
    await put(database, replace(BLUE, id="green"))
    blue, green = await load(service), await load(service, deployment="green")
    refused = await refusal(service.delete(ADA, "acme", blue.id))
    assert (refused.code, green.name in refused.message) == (Code.FAILED_PRECONDITION, True)
    await service.update(ADA, "acme", green.id, DeployedModelSpec(is_default=True))
    await service.delete(ADA, "acme", blue.id)
    await service.delete(ADA, "acme", green.id)  # the last one may go
    assert {each.state for each in await service.list(ADA, "acme")} == {DeployedModelState.UNDEPLOYING}


async def test_where_and_what_stays(service: DeployedModels) -> None:
    loading = await load(service)
    same = DeployedModelSpec(model=loading.model, deployment=loading.deployment, is_default=True, is_public=True)
    assert (await service.update(ADA, "acme", loading.id, same)).is_public
    for moved, param in (
        (DeployedModelSpec(model=HAIKU.name), "model"),
        (DeployedModelSpec(deployment=PLAIN.name), "deployment"),
        (DeployedModelSpec(display_name="x" * 64), "displayName"),
    ):
        assert (await refusal(service.update(ADA, "acme", loading.id, moved))).param == param


async def test_an_addon_is_there_until_no_replica_holds_it(
    service: DeployedModels, database: Database, notices: Notices
) -> None:
    loading = await load(service)
    await service.forget(loading)  # a late sighting of nothing
    await service.observe(loading, is_loaded=False, has_failed=False, message="no such file")
    seen = await service.get(ADA, "acme", loading.id)
    assert (seen.state, seen.status_message) == (DeployedModelState.DEPLOYING, "no such file")
    assert seen.updated_at == loading.updated_at
    await service.observe(loading, is_loaded=True, has_failed=False, message="")
    seen = await service.get(ADA, "acme", loading.id)
    assert (seen.state, seen.status_message) == (DeployedModelState.DEPLOYED, "")
    await service.observe(loading, is_loaded=False, has_failed=False, message="the next worker failed")
    assert (await service.get(ADA, "acme", loading.id)).state is DeployedModelState.DEPLOYED
    await service.delete(ADA, "acme", loading.id)
    assert notices.count == 2
    await service.observe(loading, is_loaded=True, has_failed=False, message="")
    leaving = await service.get(ADA, "acme", loading.id)
    assert (leaving.state, leaving.is_default) == (DeployedModelState.UNDEPLOYING, False)
    again = await load(service)  # before it is gone
    await service.forget(leaving)
    assert await service.list(ADA, "acme") == [again]
    assert (await refusal(service.get(ADA, "acme", loading.id))).code is Code.NOT_FOUND


async def test_what_leaves_with_its_deployment_is_kept_for_its_return(
    service: DeployedModels, database: Database
) -> None:
    loading = await load(service)
    async with database.transaction() as tx:
        await deployments.update(tx, replace(BLUE, state=DeploymentState.DELETING))
        await undeploy(tx, BLUE)
    await service.forget(loading)
    async with database.transaction() as tx:
        await bury(tx, BLUE)
    await service.forget(loading)
    assert await service.list(ADA, "acme") == []
    for attempt in (service.get(ADA, "acme", loading.id), service.delete(ADA, "acme", loading.id)):
        assert (await refusal(attempt)).code is Code.NOT_FOUND
    async with database.transaction() as tx:
        await deployments.update(tx, BLUE)
        await restore(tx, BLUE)
    back = await service.get(ADA, "acme", loading.id)
    assert (back.state, back.is_default) == (DeployedModelState.DEPLOYING, True)


async def test_other_accounts_see_what_is_public_and_nothing_else(service: DeployedModels, database: Database) -> None:
    hidden, shown = await load(service), await load(service, model="haiku", is_public=True)
    song = model("library", "song")
    shared = deployment("library", "shared", song.name)
    await put(database, song, shared, deployed(shared, "song"))
    assert (await service.get(GUS, "acme", shown.id)) == shown
    assert (await service.get(GUS, "library", "song")).model == song.name
    for attempt in (
        service.get(GUS, "acme", hidden.id),
        service.list(GUS, "acme"),
        service.create(GUS, "acme", spec()),
    ):
        assert (await refusal(attempt)).code is Code.NOT_FOUND
    assert (await refusal(service.delete(GUS, "acme", shown.id))).code is Code.FORBIDDEN
    assert [each.id for each in await service.list_of_model(GUS, HAIKU)] == [shown.id]
    assert await service.list_of_model(GUS, RHYMES) == []


async def test_who_may_change_a_deployment_may_change_what_is_deployed_on_it(
    service: DeployedModels, database: Database
) -> None:
    bob = principal("acme", "bob", Role.CONTRIBUTOR)
    await put(database, replace(BLUE, id="bobs", created_by="bob"))
    loading = await load(service)
    assert (await refusal(service.create(bob, "acme", spec("haiku")))).code is Code.FORBIDDEN
    assert (await refusal(service.delete(bob, "acme", loading.id))).code is Code.FORBIDDEN
    own = await service.create(bob, "acme", spec("haiku", "bobs"))
    await service.delete(bob, "acme", own.id)


async def test_places_of_a_model_are_listed_default_first(service: DeployedModels, database: Database) -> None:
    await put(database, replace(BLUE, id="green"))
    blue, green = await load(service), await load(service, deployment="green", is_default=True)
    assert [each.id for each in await service.list_of_model(ADA, RHYMES)] == [green.id, blue.id]
    async with database.reader() as db:
        assert len(await deployed_models.list_everywhere_of_model(db, RHYMES.name)) == 2
