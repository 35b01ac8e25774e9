import asyncio
from typing import Any

import pytest

from appliance.domain import DatasetFormat, DatasetState
from appliance.errors import Code
from appliance.store import datasets
from tests.appliance.services.dataset_world import CHAT, DatasetWorld, jsonl, refusal
from tests.appliance.services.samples import ADA
from tests.fakes.fake_clock import FakeClock
from tests.waiting import until

ONE, TWO = jsonl(CHAT), jsonl(CHAT, CHAT)
BROKEN: Any = {"messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hello"}]}


async def test_one_file_in_one_request_makes_a_dataset_ready(dataset_world: DatasetWorld) -> None:
    ready = await dataset_world.create_ready(content=TWO)
    assert (ready.state, ready.format, ready.example_count, ready.average_turn_count) == (
        DatasetState.READY,
        DatasetFormat.CHAT,
        2,
        1.0,
    )
    assert ready.estimated_token_count == 2 * (2 + 8)
    assert ready.size_bytes == len(TWO)
    assert [file.filename for file in ready.files] == ["train.jsonl"]
    assert list(dataset_world.uploads_dir.iterdir()) == []


async def test_several_files_come_to_signed_urls(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    urls = await dataset_world.announce({"a.jsonl": len(ONE), "b.jsonl": len(TWO)})
    await dataset_world.put(urls["a.jsonl"], ONE)
    refused = await refusal(dataset_world.uploads.validate(ADA, "acme", "qa"))
    assert (refused.code, refused.message) == (
        Code.FAILED_PRECONDITION,
        "accounts/acme/datasets/qa: b.jsonl has not arrived yet; upload first",
    )
    await dataset_world.put(urls["b.jsonl"], TWO)
    ready = await dataset_world.uploads.validate(ADA, "acme", "qa")
    assert (ready.state, ready.example_count) == (DatasetState.READY, 3)


async def test_each_announcement_replaces_the_one_before_and_keeps_what_is_here(dataset_world: DatasetWorld) -> None:
    created = await dataset_world.create()
    urls = await dataset_world.announce({"a.jsonl": len(ONE), "b.jsonl": len(TWO), "c.jsonl": len(ONE)})
    for name in ("a.jsonl", "b.jsonl"):
        await dataset_world.put(urls[name], {"a.jsonl": ONE, "b.jsonl": TWO}[name])
    # a is the same, b is another file now, c is not wanted any more.
    again = await dataset_world.announce({"a.jsonl": len(ONE), "b.jsonl": len(ONE)})
    assert dataset_world.files() == {created.directory: ["a.jsonl"]}
    for name, content in (("c.jsonl", ONE), ("b.jsonl", TWO)):
        assert (await refusal(dataset_world.put(urls[name], content))).code is Code.FAILED_PRECONDITION
    await dataset_world.put(again["b.jsonl"], ONE)
    ready = await dataset_world.uploads.validate(ADA, "acme", "qa")
    assert (ready.example_count, ready.size_bytes) == (2, 2 * len(ONE))


async def test_a_refused_check_says_where_and_the_dataset_can_be_mended(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    attempt = dataset_world.upload(jsonl(CHAT, BROKEN, BROKEN))
    refused = await refusal(attempt)
    assert (refused.code, refused.param) == (Code.INVALID, "file")
    assert refused.message.splitlines() == [
        "2 lines cannot be taken:",
        "train.jsonl line 2: messages[1].role: two user messages in a row; user and assistant take turns",
        "train.jsonl line 3: messages[1].role: two user messages in a row; user and assistant take turns",
    ]
    waiting = await dataset_world.datasets.get(ADA, "acme", "qa")
    assert (waiting.state, waiting.status_message) == (DatasetState.UPLOADING, refused.message)
    mended = await dataset_world.upload(ONE, "mended.jsonl")
    assert (mended.state, mended.status_message) == (DatasetState.READY, "")
    assert dataset_world.files() == {mended.directory: ["mended.jsonl"]}


async def test_what_looked_odd_stands_in_the_status_of_what_is_ready(dataset_world: DatasetWorld) -> None:
    ready = await dataset_world.create_ready(content=jsonl({**CHAT, "wieght": 1}))
    assert ready.status_message == "train.jsonl line 1: the field 'wieght' is not used (1 lines)"


async def test_a_ready_dataset_never_changes(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    urls = await dataset_world.announce({"a.jsonl": len(ONE)})
    await dataset_world.put(urls["a.jsonl"], ONE)
    ready = await dataset_world.uploads.validate(ADA, "acme", "qa")
    for attempt in (
        dataset_world.put(urls["a.jsonl"], ONE),
        dataset_world.announce({"b.jsonl": 1}),
        dataset_world.upload(ONE, "b.jsonl"),
    ):
        assert (await refusal(attempt)).code is Code.FAILED_PRECONDITION
    assert await dataset_world.uploads.validate(ADA, "acme", "qa") == ready


async def test_a_file_is_taken_with_its_announced_size_alone(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    urls = await dataset_world.announce({"a.jsonl": len(ONE)})
    for content in (ONE[:-1], ONE + b"\n"):
        assert (await refusal(dataset_world.put(urls["a.jsonl"], content))).code is Code.INVALID
    assert dataset_world.files() == {}


async def test_a_url_is_not_good_for_a_later_dataset_of_the_same_name(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    old = await dataset_world.announce({"a.jsonl": len(ONE)})
    await dataset_world.datasets.delete(ADA, "acme", "qa")
    await dataset_world.create()
    await dataset_world.announce({"a.jsonl": len(ONE)})
    assert (await refusal(dataset_world.put(old["a.jsonl"], ONE))).code is Code.NOT_FOUND


@pytest.mark.parametrize("name", ["../a", "a/b", ".hidden", "", "x" * 201, "a b"])
async def test_file_names_that_mean_something_are_refused(dataset_world: DatasetWorld, name: str) -> None:
    await dataset_world.create()
    assert (await refusal(dataset_world.announce({name: 1}))).param == "filenameToSize"
    assert (await refusal(dataset_world.upload(ONE, name))).param == "file"


async def test_an_upload_goes_on_after_a_restart(dataset_world: DatasetWorld, clock: FakeClock) -> None:
    created = await dataset_world.create()
    urls = await dataset_world.announce({"a.jsonl": len(ONE), "b.jsonl": len(TWO)})
    await dataset_world.put(urls["a.jsonl"], ONE)

    later = DatasetWorld(
        dataset_world.datasets_dir.parent, dataset_world.database, clock, dataset_world.datasets.settings
    )
    await later.datasets.sweep()
    await later.transfers.sweep_leftovers()
    assert later.files() == {created.directory: ["a.jsonl"]}
    await later.put(urls["b.jsonl"], TWO)
    assert (await later.uploads.validate(ADA, "acme", "qa")).example_count == 3


async def test_a_check_goes_on_without_its_caller(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    urls = await dataset_world.announce({"a.jsonl": len(ONE)})
    await dataset_world.put(urls["a.jsonl"], ONE)
    impatient = asyncio.create_task(dataset_world.uploads.validate(ADA, "acme", "qa"))
    patient = asyncio.create_task(dataset_world.uploads.validate(ADA, "acme", "qa"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).state is DatasetState.READY
    assert impatient.cancelled()


async def test_closing_ends_the_checks_under_way(dataset_world: DatasetWorld) -> None:
    await dataset_world.create()
    urls = await dataset_world.announce({"a.jsonl": len(ONE)})
    await dataset_world.put(urls["a.jsonl"], ONE)
    async with dataset_world.datasets.folder_lock(await dataset_world.datasets.get(ADA, "acme", "qa")):
        check = asyncio.create_task(dataset_world.uploads.validate(ADA, "acme", "qa"))
        await until(lambda: any(task.get_name() == "check of a dataset" for task in asyncio.all_tasks()))
        await dataset_world.uploads.close()
    with pytest.raises(asyncio.CancelledError):
        await check
    assert (await dataset_world.datasets.get(ADA, "acme", "qa")).state is DatasetState.UPLOADING


async def test_announced_bytes_count_against_the_quota_of_the_disk(dataset_world: DatasetWorld) -> None:
    await dataset_world.limit_disk("acme", 1000)
    await dataset_world.create()
    await dataset_world.announce({"a.jsonl": 600, "b.jsonl": 400})
    refused = await refusal(dataset_world.announce({"a.jsonl": 601, "b.jsonl": 400}))
    assert (refused.code, refused.reason) == (Code.RATE_LIMITED, "QUOTA_EXCEEDED")
    await dataset_world.create("other")
    assert (await refusal(dataset_world.upload(ONE, dataset_id="other"))).code is Code.RATE_LIMITED
    await dataset_world.announce({"a.jsonl": 600})
    assert (await dataset_world.upload(ONE, dataset_id="other")).state is DatasetState.READY
    async with dataset_world.database.reader() as db:
        assert await datasets.count_bytes(db, "acme") == 600 + len(ONE)
    assert list(dataset_world.uploads_dir.iterdir()) == []
