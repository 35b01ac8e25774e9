import os

import pytest
from msgspec.structs import replace

from appliance.domain import DatasetFormat, DatasetState, Principal, Role
from appliance.errors import Code
from appliance.services.datasets import PREVIEW_EXAMPLES_MAX
from appliance.store import datasets
from tests.appliance.services.dataset_world import BASE_URL, CHAT, DatasetWorld, jsonl, refusal, stream
from tests.appliance.services.samples import ADA, GUS, HOME_ADMIN, principal

BOB = principal("acme", "bob", Role.CONTRIBUTOR)
EVE = principal("acme", "eve", Role.INFERENCE_USER)


async def test_a_dataset_waits_for_its_files(dataset_world: DatasetWorld) -> None:
    created = await dataset_world.create(format=DatasetFormat.CHAT)
    assert (created.name, created.state, created.format, created.created_by) == (
        "accounts/acme/datasets/qa",
        DatasetState.UPLOADING,
        DatasetFormat.CHAT,
        "ada",
    )
    assert created.directory != "qa"
    assert await dataset_world.datasets.get(ADA, "acme", "qa") == created
    assert await dataset_world.datasets.list(ADA, "acme") == [created]


@pytest.mark.parametrize(
    ("dataset_id", "display_name", "example_count", "param"),
    [
        ("Upper", "", None, "datasetId"),
        ("qa", "x" * 64, None, "dataset.displayName"),
        ("qa", "", 0, "dataset.exampleCount"),
        ("qa", "", 50_000_001, "dataset.exampleCount"),
    ],
)
async def test_what_breaks_a_rule_is_named(
    dataset_world: DatasetWorld, dataset_id: str, display_name: str, example_count: int | None, param: str
) -> None:
    attempt = dataset_world.datasets.create(
        ADA,
        "acme",
        dataset_id,
        display_name=display_name,
        format=None,
        example_count=example_count,
        fields=[],
    )
    refused = await refusal(attempt)
    assert (refused.code, refused.param) == (Code.INVALID, param)


async def test_a_name_is_given_once(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    assert (await refusal(dataset_world.create())).code is Code.CONFLICT
    await dataset_world.create("qa", GUS)


@pytest.mark.parametrize("who", [GUS, HOME_ADMIN])
async def test_datasets_of_others_do_not_exist(dataset_world: DatasetWorld, who: Principal) -> None:
    await dataset_world.create_ready()
    service = dataset_world.datasets
    for attempt in (
        service.get(who, "acme", "qa"),
        service.list(who, "acme"),
        service.update(who, "acme", "qa", display_name="x"),
        service.delete(who, "acme", "qa"),
        service.download_urls(who, "acme", "qa", BASE_URL, with_lineage=False),
        service.preview(who, "acme", "qa", 1),
        dataset_world.uploads.upload_urls(who, "acme", "qa", {"a": 1}, BASE_URL),
        dataset_world.uploads.upload(who, "acme", "qa", "a", stream(b""), 1),
        dataset_world.uploads.validate(who, "acme", "qa"),
        dataset_world.chunks.split(who, "acme", "qa", 1),
    ):
        assert (await refusal(attempt)).code is Code.NOT_FOUND


async def test_the_librarys_datasets_are_for_those_who_keep_it(dataset_world: DatasetWorld) -> None:
    create = dataset_world.datasets.create
    keeper = HOME_ADMIN
    await create(keeper, "library", "qa", display_name="", format=None, example_count=None, fields=[])
    assert (await dataset_world.datasets.get(keeper, "library", "qa")).id == "qa"
    assert (await refusal(dataset_world.datasets.get(ADA, "library", "qa"))).code is Code.NOT_FOUND


@pytest.mark.parametrize("who", [BOB, EVE])
async def test_a_contributor_changes_his_own_alone(dataset_world: DatasetWorld, who: Principal) -> None:
    await dataset_world.create_ready()
    assert (await dataset_world.datasets.get(who, "acme", "qa")).id == "qa"
    for attempt in (
        dataset_world.datasets.update(who, "acme", "qa", display_name="x"),
        dataset_world.datasets.delete(who, "acme", "qa"),
        dataset_world.uploads.validate(who, "acme", "qa"),
        dataset_world.uploads.upload_urls(who, "acme", "qa", {"a": 1}, BASE_URL),
    ):
        assert (await refusal(attempt)).code is Code.FORBIDDEN
    if who is BOB:
        await dataset_world.create_ready("own", who=BOB)
        await dataset_world.datasets.delete(BOB, "acme", "own")


async def test_the_display_name_changes_and_nothing_else(dataset_world: DatasetWorld) -> None:
    before = await dataset_world.create_ready()
    after = await dataset_world.datasets.update(ADA, "acme", "qa", display_name="Questions")
    assert after == replace(before, display_name="Questions", updated_at=after.updated_at)


async def test_deleting_removes_the_files(dataset_world: DatasetWorld) -> None:
    await dataset_world.create_ready()
    assert list(dataset_world.files().values()) == [["train.jsonl"]]
    await dataset_world.datasets.delete(ADA, "acme", "qa")
    assert dataset_world.files() == {}
    assert (await refusal(dataset_world.datasets.get(ADA, "acme", "qa"))).code is Code.NOT_FOUND


async def test_files_are_downloaded_as_they_came(dataset_world: DatasetWorld) -> None:
    content = b"\xef\xbb\xbf" + jsonl(CHAT) + b"\r\n\n" + jsonl(CHAT)
    await dataset_world.create_ready(content=content)
    urls = await dataset_world.datasets.download_urls(ADA, "acme", "qa", BASE_URL, with_lineage=False)
    assert [await dataset_world.get(url) for url in urls.values()] == [content]
    assert list(urls) == ["train.jsonl"]


async def test_a_download_can_bring_all_that_a_chunk_came_from(dataset_world: DatasetWorld) -> None:
    await dataset_world.create_ready(content=jsonl(*[CHAT] * 3))
    await dataset_world.chunks.split(ADA, "acme", "qa", 2)
    await dataset_world.chunks.split(ADA, "acme", "qa-chunk-1", 1)
    download = dataset_world.datasets.download_urls
    urls = await download(ADA, "acme", "qa-chunk-1-chunk-2", BASE_URL, with_lineage=True)
    assert list(urls) == [
        "qa-chunk-1-chunk-2/qa-chunk-1-chunk-2.jsonl",
        "qa-chunk-1/qa-chunk-1.jsonl",
        "qa/train.jsonl",
    ]
    await dataset_world.datasets.delete(ADA, "acme", "qa-chunk-1")
    urls = await download(ADA, "acme", "qa-chunk-1-chunk-2", BASE_URL, with_lineage=True)
    assert list(urls) == ["qa-chunk-1-chunk-2/qa-chunk-1-chunk-2.jsonl"]


async def test_what_is_not_ready_cannot_be_looked_into(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    for attempt in (
        dataset_world.datasets.download_urls(ADA, "acme", "qa", BASE_URL, with_lineage=False),
        dataset_world.datasets.preview(ADA, "acme", "qa", 1),
        dataset_world.chunks.split(ADA, "acme", "qa", 1),
    ):
        assert (await refusal(attempt)).code is Code.FAILED_PRECONDITION


async def test_a_preview_shows_the_first_examples_within_limits(dataset_world: DatasetWorld) -> None:
    await dataset_world.create_ready(content=b"\n" + jsonl(*({"n": number} for number in range(200))))
    shown = await dataset_world.datasets.preview(ADA, "acme", "qa", 2)
    assert shown == [{"n": 0}, {"n": 1}]
    assert len(await dataset_world.datasets.preview(ADA, "acme", "qa", 1000)) == PREVIEW_EXAMPLES_MAX


async def test_a_sweep_leaves_what_rows_know_of(dataset_world: DatasetWorld) -> None:
    ready = await dataset_world.create_ready()
    folder = dataset_world.datasets_dir / ready.directory
    (folder / "of-a-set-before.jsonl").touch()
    (dataset_world.datasets_dir / "nobodys").mkdir()
    (dataset_world.datasets_dir / "nobodys" / "file").touch()
    await dataset_world.datasets.sweep()
    assert dataset_world.files() == {ready.directory: ["train.jsonl"]}


async def test_folders_and_files_are_for_their_owner_alone(dataset_world: DatasetWorld) -> None:
    ready = await dataset_world.create_ready()
    folder = dataset_world.datasets_dir / ready.directory
    assert os.stat(folder).st_mode & 0o077 == 0
    async with dataset_world.database.reader() as db:
        assert await datasets.count_bytes(db, "acme") == ready.size_bytes == (folder / "train.jsonl").stat().st_size


async def test_every_change_and_every_look_inside_is_recorded(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    await dataset_world.announce({"a.jsonl": len(jsonl(CHAT))})
    await dataset_world.upload(jsonl(CHAT, CHAT))
    await dataset_world.datasets.update(ADA, "acme", "qa", display_name="x")
    await dataset_world.datasets.get(ADA, "acme", "qa")
    await dataset_world.datasets.preview(ADA, "acme", "qa", 1)
    await dataset_world.chunks.split(ADA, "acme", "qa", 1)
    await dataset_world.datasets.download_urls(ADA, "acme", "qa-chunk-1", BASE_URL, with_lineage=True)
    await dataset_world.datasets.delete(ADA, "acme", "qa")
    assert await dataset_world.audited() == [
        ("qa", []),  # created
        ("qa", ["filenameToSize"]),
        ("qa", ["filenameToSize"]),  # another file, by upload
        ("qa", []),  # ready
        ("qa", ["displayName"]),
        ("qa", []),  # looked into
        ("qa-chunk-1", []),
        ("qa-chunk-2", []),
        ("qa-chunk-1", []),  # downloaded, with what it came from
        ("qa", []),
        ("qa", []),  # deleted
    ]
