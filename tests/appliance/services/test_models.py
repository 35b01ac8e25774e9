import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.domain import DeploymentState, ModelState, Role
from appliance.errors import Code
from appliance.services.model_spec import ModelAsk
from appliance.services.models import NOTHING
from appliance.store import deployed_models, deployments
from appliance.store.database import Database
from models.fireworks_json import ConversationConfig
from tests.appliance.services.model_world import ModelWorld, read_files, refusal
from tests.appliance.services.samples import (
    ADA,
    GUS,
    HOME_ADMIN,
    INFO,
    account,
    addon,
    deployed,
    deployment,
    model,
    principal,
    put,
)

BOB = principal("acme", "bob", Role.CONTRIBUTOR)
SHOUT = "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}\n{% endfor %}ASSISTANT:"


async def update(world: ModelWorld, ask: ModelAsk, model_id: str = "poet") -> None:
    await world.models.update(ADA, "acme", model_id, ask)


@pytest.mark.parametrize("model_id", ["", "Poet", "1poet", "-poet", "p" * 64, "po/et", "../poet"])
async def test_ids_follow_the_rules(model_world: ModelWorld, model_id: str) -> None:
    error = await refusal(model_world.create(model_id=model_id))
    assert (error.code, error.param) == (Code.INVALID, "modelId")


async def test_a_name_is_taken_once_per_account(model_world: ModelWorld) -> None:
    await model_world.create()
    assert (await refusal(model_world.create())).code is Code.CONFLICT
    await model_world.create(GUS)


async def test_texts_have_limits(model_world: ModelWorld) -> None:
    for ask in (ModelAsk(display_name="x" * 64), ModelAsk(description="x" * 1001)):
        error = await refusal(model_world.models.create(ADA, "acme", "poet", ask))
        assert (error.code, (error.param or "").startswith("model.")) == (Code.INVALID, True)


async def test_others_see_public_models_once_they_are_ready(model_world: ModelWorld, database: Database) -> None:
    await put(
        database,
        model("globex", "diary"),
        model("globex", "draft", is_public=True, state=ModelState.UPLOADING),
        model("globex", "song", is_public=True),
        model("library", "shared"),
        model("acme", "own", state=ModelState.UPLOADING),
        model("acme", "poet"),
    )
    assert [found.id for found in await model_world.models.list(ADA, "acme")] == ["own", "poet"]
    assert [found.id for found in await model_world.models.list(ADA, "globex")] == ["song"]
    assert [found.id for found in await model_world.models.list(ADA, "library")] == ["shared"]
    assert (await model_world.models.get(ADA, "globex", "song")).is_public
    for model_id in ("diary", "draft", "nothing"):
        assert (await refusal(model_world.models.get(ADA, "globex", model_id))).code is Code.NOT_FOUND


async def test_an_account_with_nothing_to_see_does_not_exist(model_world: ModelWorld, database: Database) -> None:
    await put(database, model("globex", "diary"))
    assert (await refusal(model_world.models.list(ADA, "globex"))).code is Code.NOT_FOUND
    assert await model_world.models.list(ADA, "acme") == []


async def test_models_are_changed_by_those_who_may(model_world: ModelWorld, database: Database) -> None:
    await put(database, account("home"), model("globex", "song", is_public=True), model("library", "shared"))
    await model_world.create()
    for who, account_id, model_id, code in (
        (BOB, "acme", "poet", Code.FORBIDDEN),
        (GUS, "acme", "poet", Code.NOT_FOUND),
        (ADA, "globex", "song", Code.FORBIDDEN),
        (ADA, "library", "shared", Code.FORBIDDEN),
    ):
        for attempt in (
            model_world.models.delete(who, account_id, model_id),
            model_world.files.upload_urls(who, account_id, model_id, {"x": 1}, ""),
            model_world.files.validate_upload(who, account_id, model_id),
        ):
            assert (await refusal(attempt)).code is code
    await model_world.create(BOB, "bobs")
    await model_world.models.delete(BOB, "acme", "bobs")
    await model_world.models.delete(HOME_ADMIN, "library", "shared")


async def test_a_model_is_deleted_with_its_files(model_world: ModelWorld, models_dir: Path) -> None:
    await model_world.create()
    await model_world.upload({"config.json": b"{}"})
    assert len(os.listdir(models_dir)) == 1
    deleted: list[str] = []
    model_world.models.on_delete = deleted.append
    await model_world.models.delete(ADA, "acme", "poet")
    assert os.listdir(models_dir) == []
    assert deleted == ["accounts/acme/models/poet"]
    assert (await refusal(model_world.models.get(ADA, "acme", "poet"))).code is Code.NOT_FOUND
    assert (await refusal(model_world.models.delete(ADA, "acme", "poet"))).code is Code.NOT_FOUND


async def test_a_model_in_use_stays_and_names_only_ones_own_deployments(
    model_world: ModelWorld, database: Database
) -> None:
    song, poet = model("acme", "song", is_public=True), model("acme", "poet")
    await put(database, song, poet, deployment("globex", "secret", song.name), deployment("acme", "fast", poet.name))
    error = await refusal(model_world.models.delete(ADA, "acme", "song"))
    assert error.code is Code.FAILED_PRECONDITION
    assert "secret" not in error.message
    assert "deployments/fast" in (await refusal(model_world.models.delete(ADA, "acme", "poet"))).message


async def test_what_a_request_can_name_is_listed(model_world: ModelWorld, database: Database) -> None:
    """Own models, then the library's, then public ones; deployed within reach, or serverless."""
    poet, idle = model("acme", "poet"), model("acme", "idle")
    rhymes = addon("acme", "rhymes", poet)
    song, tune = model("globex", "song", is_public=True), model("globex", "tune", is_public=True)
    ember = replace(model("library", "ember"), is_serverless=True)
    at_acme, at_globex = deployment("acme", "blue", poet.name), deployment("globex", "red", song.name)
    await put(database, poet, idle, rhymes, song, tune, ember, model("library", "shared"), at_acme, at_globex)
    await put(database, deployed(at_acme, "base"), deployed(at_acme, "loaded", model=rhymes))
    await put(database, deployed(at_globex, "base", is_public=True), deployed(at_globex, "tune", model=tune))
    askable = await model_world.models.list_askable(ADA)
    assert [found.model for found in askable] == [poet, rhymes, ember, song]
    assert [found.info for found in askable if found.model == rhymes] == [poet.info]
    assert (await model_world.models.get_askable(ADA, "library", "ember")).model == ember
    for account_id, model_id in (("acme", "idle"), ("library", "shared"), ("globex", "tune"), ("acme", "nothing")):
        assert (await refusal(model_world.models.get_askable(ADA, account_id, model_id))).code is Code.NOT_FOUND


async def test_an_addon_needs_a_base_model_in_sight_that_is_no_addon(
    model_world: ModelWorld, database: Database
) -> None:
    poet, diary = model("acme", "poet"), model("globex", "diary")
    await put(database, poet, diary, addon("acme", "first", poet))
    for base_model, code in (
        (None, Code.INVALID),
        ("acme/first", Code.INVALID),
        ("nothing", Code.NOT_FOUND),
        (diary.name, Code.NOT_FOUND),
    ):
        refused = await refusal(model_world.create_addon(base_model))
        assert (refused.code, refused.param) == (code, "model.peftDetails.baseModel")


async def test_a_deployed_addon_is_not_deleted(model_world: ModelWorld, database: Database) -> None:
    poet = model("acme", "poet")
    rhymes = replace(addon("acme", "rhymes", poet), is_public=True)
    blue = deployment("acme", "blue", poet.name)
    await put(database, poet, rhymes, blue, deployed(blue, "loaded", model=rhymes))
    refused = await refusal(model_world.models.delete(ADA, "acme", "rhymes"))
    assert refused.code is Code.FAILED_PRECONDITION
    assert "accounts/acme/deployedModels/loaded" in refused.message
    async with database.transaction() as tx:
        await deployed_models.delete(tx, "acme", "loaded")
    await model_world.models.delete(ADA, "acme", "rhymes")


async def test_given_fields_change_and_empty_ones_are_taken_away(model_world: ModelWorld, database: Database) -> None:
    await put(database, model("acme", "poet"))
    await update(model_world, ModelAsk(display_name="New", context_length=100, deprecation_date="2027-05-00"))
    await update(model_world, ModelAsk(github_url="https://github.example.com/poet", is_public=True))
    found = await model_world.models.get(ADA, "acme", "poet")
    assert (found.display_name, found.context_length, found.deprecation_date) == ("New", 100, "2027-05-00")
    assert (found.github_url, found.is_public) == ("https://github.example.com/poet", True)
    assert found.served_info is not None
    assert found.served_info.max_context_length == 100
    await update(model_world, ModelAsk(display_name="", context_length=0, deprecation_date="", github_url=""))
    found = await model_world.models.get(ADA, "acme", "poet")
    assert (found.display_name, found.context_length, found.deprecation_date, found.github_url) == ("", None, None, "")
    assert found.served_info == INFO


async def test_what_is_as_it_was_may_be_said_again_and_nothing_else_of_it(
    model_world: ModelWorld, database: Database
) -> None:
    poet = model("acme", "poet")
    await put(database, poet, addon("acme", "rhymes", poet))
    await update(model_world, ModelAsk(kind=poet.kind, found={"supportsLora": True, "supportsImageInput": False}))
    await update(model_world, ModelAsk(base_model="poet"), "rhymes")
    for ask, param in (
        (ModelAsk(base_model="poet"), "peftDetails.baseModel"),
        (ModelAsk(found={"supportsTools": True}), "supportsTools"),
        (ModelAsk(context_length=INFO.max_context_length + 1), "contextLength"),
        (ModelAsk(default_draft_token_count=4), "defaultDraftTokenCount"),
        (ModelAsk(default_draft_model="poet"), "defaultDraftModel"),
    ):
        assert (await refusal(update(model_world, ask))).param == param
    assert (await refusal(update(model_world, ModelAsk(kind=poet.kind), "rhymes"))).param == "kind"
    assert (await refusal(update(model_world, ModelAsk(context_length=5), "rhymes"))).param == "contextLength"


async def test_another_context_length_replaces_the_workers_that_serve_the_model(
    model_world: ModelWorld, database: Database
) -> None:
    poet, other = model("acme", "poet"), model("acme", "other")
    await put(database, poet, other, deployment("acme", "blue", poet.name), deployment("acme", "red", other.name))
    await update(model_world, ModelAsk(display_name="No worker knows this"))
    await update(model_world, ModelAsk(context_length=64))
    async with database.reader() as db:
        blue, red = await deployments.get(db, "acme", "blue"), await deployments.get(db, "acme", "red")
    assert blue is not None
    assert red is not None
    assert (blue.revision, red.revision) == (2, 1)
    assert blue.state in (DeploymentState.UPDATING, DeploymentState.CREATING)


async def test_a_default_draft_model_fits_and_stays(model_world: ModelWorld, database: Database) -> None:
    small, secret = model("acme", "small"), model("globex", "secret")
    narrow = replace(model("acme", "narrow"), info=replace(INFO, vocab_size=7, file_sha256={"tokenizer.json": "x"}))
    short = replace(model("acme", "short"), info=replace(INFO, max_context_length=8))
    await put(database, model("acme", "poet"), small, secret, narrow, short, addon("acme", "rhymes", small))
    for draft in ("narrow", "short", "rhymes", "nothing", secret.name):
        assert (await refusal(update(model_world, ModelAsk(default_draft_model=draft)))).param == "defaultDraftModel"
    await update(model_world, ModelAsk(default_draft_model="small", default_draft_token_count=4))
    poet = await model_world.models.get(ADA, "acme", "poet")
    assert (poet.default_draft_model, poet.default_draft_token_count) == (small.name, 4)
    assert "models/poet" in (await refusal(model_world.models.delete(ADA, "acme", "small"))).message
    assert (await refusal(update(model_world, ModelAsk(is_public=True)))).param == "defaultDraftModel"
    await update(model_world, ModelAsk(default_draft_model=""))
    poet = await model_world.models.get(ADA, "acme", "poet")
    assert (poet.default_draft_model, poet.default_draft_token_count) == (None, None)
    await model_world.models.delete(ADA, "acme", "small")


async def test_a_conversation_config_of_a_ready_model_comes_in_a_new_folder_and_new_workers(
    model_world: ModelWorld, database: Database, tiny_model: Path
) -> None:
    before = await model_world.make_ready(tiny_model)
    await put(database, deployment("acme", "blue", before.name))
    config = ConversationConfig(template=SHOUT, system="Be brief.")
    after = await model_world.models.update(ADA, "acme", "poet", ModelAsk(conversation_config=config))
    assert after.directory != before.directory
    assert await model_world.files.conversation_config(after) == config
    assert os.listdir(model_world.models_dir / before.directory)  # its workers read there until they are replaced
    async with database.reader() as db:
        blue = await deployments.get(db, "acme", "blue")
    assert blue is not None
    assert blue.revision == 2
    same = await model_world.models.update(ADA, "acme", "poet", ModelAsk(conversation_config=config))
    assert same.directory == after.directory
    bare = await model_world.models.update(ADA, "acme", "poet", ModelAsk(conversation_config=NOTHING))
    assert await model_world.files.conversation_config(bare) is None
    async with database.transaction() as tx:
        await deployments.delete(tx, "acme", "blue")
    await model_world.models.delete(ADA, "acme", "poet")
    assert os.listdir(model_world.models_dir) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ConversationConfig(template="{% for x in %}"), "malformed"),
        (ConversationConfig(template="{{ raise_exception('never') }}"), "never"),
        (ConversationConfig(template="{{ ''.__class__.__mro__ }}"), "unsafe"),
        (ConversationConfig(style="llama-v3", template="x"), "only jinja"),
    ],
)
async def test_a_template_is_tried_before_it_is_taken(
    model_world: ModelWorld, config: ConversationConfig, words: str
) -> None:
    ask = ModelAsk(conversation_config=config)
    new = await refusal(model_world.models.create(ADA, "acme", "song", ask))
    assert (new.code, new.param) == (Code.INVALID, "model.conversationConfig")
    assert words in new.message
    created = await model_world.create()
    assert (await refusal(update(model_world, ask))).param == "conversationConfig"
    assert await model_world.files.conversation_config(created) is None


async def test_an_addon_has_no_conversation_config(model_world: ModelWorld, database: Database) -> None:
    poet = model("acme", "poet")
    await put(database, poet, addon("acme", "rhymes", poet))
    ask = ModelAsk(conversation_config=ConversationConfig(template=SHOUT))
    assert (await refusal(update(model_world, ask, "rhymes"))).param == "conversationConfig"


async def test_a_model_made_with_a_config_keeps_it_when_its_files_arrive(
    model_world: ModelWorld, tiny_model: Path
) -> None:
    config = ConversationConfig(template=SHOUT)
    await model_world.models.create(ADA, "acme", "poet", ModelAsk(conversation_config=config))
    await model_world.upload(read_files(tiny_model))
    await model_world.files.validate_upload(ADA, "acme", "poet")
    ready = await model_world.models.get(ADA, "acme", "poet")
    assert await model_world.files.conversation_config(ready) == config


async def test_every_change_is_in_the_audit_log_with_the_names_of_its_fields(
    model_world: ModelWorld, database: Database
) -> None:
    await model_world.create()
    await update(model_world, ModelAsk(display_name="Hush", is_public=True))
    await model_world.models.delete(ADA, "acme", "poet")
    async with database.reader() as db:
        rows = list(await db.execute_fetchall("SELECT resource, fields FROM audit_logs ORDER BY seq"))
    assert [row["resource"] for row in rows] == ["accounts/acme/models/poet"] * 3
    assert rows[1]["fields"] == '["displayName","public"]'
    assert "Hush" not in str([tuple(row) for row in rows])
