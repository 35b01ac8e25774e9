from appliance.domain import DatasetFormat, DatasetState, Role
from appliance.errors import Code
from tests.appliance.services.dataset_world import BASE_URL, CHAT, DatasetWorld, jsonl, refusal
from tests.appliance.services.samples import ADA, principal

BOB = principal("acme", "bob", Role.CONTRIBUTOR)


async def test_chunks_are_ready_datasets_of_their_own(dataset_world: DatasetWorld) -> None:
    source = await dataset_world.create_ready(content=jsonl(*[CHAT] * 5))
    chunks = await dataset_world.chunks.split(BOB, "acme", "qa", 2)
    assert [chunk.id for chunk in chunks] == ["qa-chunk-1", "qa-chunk-2", "qa-chunk-3"]
    assert [chunk.example_count for chunk in chunks] == [2, 2, 1]
    for chunk in chunks:
        assert (chunk.state, chunk.format, chunk.source_dataset, chunk.created_by) == (
            DatasetState.READY,
            DatasetFormat.CHAT,
            source.name,
            "bob",
        )
        assert await dataset_world.datasets.get(ADA, "acme", chunk.id) == chunk
    assert sum(chunk.estimated_token_count or 0 for chunk in chunks) == source.estimated_token_count
    await dataset_world.datasets.delete(ADA, "acme", "qa")
    urls = await dataset_world.datasets.download_urls(ADA, "acme", "qa-chunk-3", BASE_URL, with_lineage=False)
    assert [await dataset_world.get(url) for url in urls.values()] == [jsonl(CHAT)]
    assert list(dataset_world.uploads_dir.iterdir()) == []


async def test_all_chunks_are_made_or_none(dataset_world: DatasetWorld) -> None:
    source = await dataset_world.create_ready(content=jsonl(*[CHAT] * 5))
    await dataset_world.create("qa-chunk-3")
    assert (await refusal(dataset_world.chunks.split(ADA, "acme", "qa", 2))).code is Code.CONFLICT
    found = [dataset.id for dataset in await dataset_world.datasets.list(ADA, "acme")]
    assert found == ["qa", "qa-chunk-3"]
    assert set(dataset_world.files()) == {source.directory}


async def test_too_many_chunks_are_refused_by_the_name_of_the_field(dataset_world: DatasetWorld) -> None:
    await dataset_world.create_ready(content=jsonl(*[CHAT] * 11))
    refused = await refusal(dataset_world.chunks.split(ADA, "acme", "qa", 1))
    assert (refused.code, refused.param) == (Code.INVALID, "chunkSize")


async def test_a_long_name_gives_way_to_its_ending(dataset_world: DatasetWorld) -> None:
    await dataset_world.create_ready("a" * 63)
    (chunk,) = await dataset_world.chunks.split(ADA, "acme", "a" * 63, 10)
    assert chunk.id == "a" * 55 + "-chunk-1"


async def test_chunks_need_room_of_their_own(dataset_world: DatasetWorld) -> None:
    source = await dataset_world.create_ready(content=jsonl(*[CHAT] * 5))
    await dataset_world.limit_disk("acme", 2 * source.size_bytes - 1)
    assert (await refusal(dataset_world.chunks.split(ADA, "acme", "qa", 2))).code is Code.RATE_LIMITED
    await dataset_world.limit_disk("acme", 2 * source.size_bytes)
    assert len(await dataset_world.chunks.split(ADA, "acme", "qa", 2)) == 3
