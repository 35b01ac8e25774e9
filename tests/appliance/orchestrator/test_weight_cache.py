import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.config import MIB
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.quiet import Quiet
from appliance.orchestrator.weight_cache import OWNER, WeightCache, Weights, recently_used
from appliance.store import deployments, models
from appliance.store.database import Database
from tests.appliance.orchestrator.samples import sample_deployment, sample_info, sample_model
from tests.fakes.fake_gpus import fake_device
from tests.waiting import until


@pytest.fixture
def ledger() -> Ledger:
    return Ledger([fake_device()], host_bytes=10 * MIB)


@pytest.fixture
async def cache(ledger: Ledger) -> AsyncIterator[WeightCache]:
    cache = WeightCache(ledger, Quiet(), lock=lambda address, num_bytes: True)
    yield cache
    await cache.close()
    assert ledger.host_by_owner() == {}


def weights(directory: Path, model: str, megabytes: int) -> Weights:
    """Files of that size, of which nothing is written to disk."""
    paths = (directory / f"{model}-1", directory / f"{model}-2")
    for path in paths:
        with path.open("wb") as file:
            file.truncate(megabytes * MIB // 2)
    return Weights(model, paths, megabytes * MIB)


def models_of(cache: WeightCache) -> list[str]:
    return [view.model for view in cache.views()]


async def test_the_least_recently_used_makes_way(cache: WeightCache, ledger: Ledger, tmp_path: Path) -> None:
    a, b, c = (weights(tmp_path, model, 4) for model in "abc")
    cache.keep(a)
    cache.keep(b)
    cache.keep(a)
    assert models_of(cache) == ["a", "b"]
    cache.keep(c)
    assert models_of(cache) == ["c", "a"]
    assert ledger.host_by_owner() == {OWNER: 8 * MIB}
    await until(lambda: all(view.is_locked for view in cache.views()))


async def test_what_never_fits_pushes_nothing_out(cache: WeightCache, tmp_path: Path) -> None:
    cache.keep(weights(tmp_path, "a", 4))
    cache.keep(weights(tmp_path, "huge", 11))
    assert models_of(cache) == ["a"]


async def test_it_takes_only_what_sleepers_leave(cache: WeightCache, ledger: Ledger, tmp_path: Path) -> None:
    cache.keep(weights(tmp_path, "a", 4))
    ledger.reserve_host("a sleeping replica", 4 * MIB)
    cache.keep(weights(tmp_path, "b", 4))
    assert models_of(cache) == ["b"]
    cache.keep(weights(tmp_path, "c", 7))
    assert models_of(cache) == ["b"]
    ledger.release_host("a sleeping replica")


async def test_memory_that_is_asked_for_is_given_back_at_once(
    cache: WeightCache, ledger: Ledger, tmp_path: Path
) -> None:
    for model in "ab":
        cache.keep(weights(tmp_path, model, 4))
    cache.shrink_to(5 * MIB)  # while they are being read
    assert models_of(cache) == ["b"]
    await until(lambda: cache.views()[0].is_locked)
    assert ledger.host_by_owner() == {OWNER: 4 * MIB}
    cache.shrink_to(0)
    assert cache.held_bytes == 0
    assert ledger.host_free_bytes() == 10 * MIB


async def test_prefetch_fills_free_memory_with_the_most_recent(cache: WeightCache, tmp_path: Path) -> None:
    cache.keep(weights(tmp_path, "used", 4))
    cache.prefetch([weights(tmp_path, model, megabytes) for model, megabytes in [("a", 3), ("b", 4), ("c", 3)]])
    assert models_of(cache) == ["used", "a", "c"]
    cache.keep(weights(tmp_path, "new", 4))
    assert models_of(cache) == ["new", "used"], "what was only fetched goes first"


async def test_nothing_is_read_while_something_loads(ledger: Ledger, tmp_path: Path) -> None:
    quiet = Quiet(settle_s=0.0)
    cache = WeightCache(ledger, quiet, lock=lambda address, num_bytes: True)
    with quiet.loading():
        cache.keep(weights(tmp_path, "a", 4))
        assert not cache.views()[0].is_locked
    await until(lambda: cache.views()[0].is_locked)
    await cache.close()


async def test_a_kernel_that_refuses_to_lock_is_told_of_once(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = WeightCache(ledger, Quiet(), lock=lambda address, num_bytes: False)
    with caplog.at_level(logging.INFO):
        for model in "ab":
            cache.keep(weights(tmp_path, model, 4))
        await until(lambda: sum("in the page cache" in record.message for record in caplog.records) == 2)
    assert sum("RLIMIT_MEMLOCK" in record.message for record in caplog.records) == 1
    assert [view.is_locked for view in cache.views()] == [False, False]
    await cache.close()


async def test_files_that_cannot_be_read_are_not_kept(cache: WeightCache, tmp_path: Path) -> None:
    cache.keep(Weights("gone", (tmp_path / "nothing",), MIB))
    await until(lambda: not cache.views())


async def test_a_model_whose_files_changed_is_read_anew(cache: WeightCache, tmp_path: Path) -> None:
    cache.keep(weights(tmp_path, "a", 4))
    cache.keep(weights(tmp_path, "a", 6))
    assert [view.num_bytes for view in cache.views()] == [6 * MIB]
    cache.forget("a")
    assert cache.views() == []


async def test_weights_are_the_safetensors_files(tmp_path: Path) -> None:
    info = sample_info()
    info.file_sha256.update({"config.json": "1", "model-1.safetensors": "2"})
    assert Weights.of("m", tmp_path, info) == Weights("m", (tmp_path / "model-1.safetensors",), info.weight_bytes)


async def test_models_are_found_by_when_their_deployments_were_last_used(database: Database, tmp_path: Path) -> None:
    async def deploy(deployment_id: str, model_id: str, **changes: Any) -> None:
        named = {"id": deployment_id, "base_model": f"accounts/acme/models/{model_id}"}
        async with database.transaction() as tx:
            await deployments.insert(tx, sample_deployment(**(named | changes)))

    async with database.transaction() as tx:
        for model_id in ("old", "new", "never"):
            await models.insert(tx, sample_model(model_id))
    await deploy("a", "old", last_used_at=10.0)
    await deploy("b", "new", last_used_at=30.0)
    await deploy("c", "old", last_used_at=20.0)
    await deploy("d", "never")
    await deploy("e", "missing", last_used_at=40.0)
    found = await recently_used(database, tmp_path)
    assert [weights.model.rpartition("/")[2] for weights in found] == ["new", "old", "never"]
