import asyncio
from pathlib import Path

import psutil
import pytest

from appliance.domain import DatasetFormat
from appliance.services.dataset_checking import MODULE, check_datasets
from appliance.services.dataset_validation import Check, CheckedFile
from tests.appliance.services.dataset_world import CHAT, jsonl
from tests.waiting import until


def check_of(path: Path, line_bytes_max: int = 1000) -> Check:
    file = CheckedFile("train.jsonl", str(path))
    return Check(files=[file], format=None, line_bytes_max=line_bytes_max, examples_max=1_000_000)


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [child for child in found if child.status() != psutil.STATUS_ZOMBIE and MODULE in child.cmdline()]


async def test_several_datasets_are_checked_by_one_process(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(jsonl(CHAT))
    bad.write_bytes(b"\xff\n")
    first, second = await check_datasets([check_of(good), check_of(bad)], 100)
    assert (first.format, first.num_examples, first.problems) == (DatasetFormat.CHAT, 1, [])
    assert second.problems == ["train.jsonl line 1: not UTF-8 (byte 0)"]


async def test_a_line_of_nothing_but_small_values_is_read_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "wide"
    path.write_bytes(b'{"a":[' + b"{}," * 1_000_000 + b"{}]}\n" + jsonl({}))
    (report,) = await check_datasets([check_of(path, line_bytes_max=2**24)], 2**24)
    assert (report.num_examples, report.problems) == (2, [])


async def test_nobody_waiting_nobody_checks(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(jsonl(*[CHAT] * 100_000))
    checking = asyncio.create_task(check_datasets([check_of(path)], path.stat().st_size))
    await until(children)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert children() == []
