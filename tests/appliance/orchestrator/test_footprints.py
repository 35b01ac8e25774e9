from typing import Any

import msgspec
import pytest

from appliance.config import FleetSettings
from appliance.domain import Footprint, Precision
from appliance.orchestrator.footprints import NEWEST_WEIGHT, footprint_key, learn
from runtime.protocol import Loaded
from tests.appliance.orchestrator.samples import sample_deployment, sample_info
from tests.fakes.fake_gpus import fake_device


def key(*, info: Any = None, settings: FleetSettings | None = None, version: str = "1", **changes: Any) -> str:
    return footprint_key(
        sample_deployment(**changes), info or sample_info(), settings or FleetSettings(), fake_device(), version=version
    )


def loaded(footprint: int, kv: int) -> Loaded:
    return Loaded(footprint_bytes=footprint, kv_bytes=kv, num_blocks=1, block_size=1, max_context_length=1, load_ms={})


@pytest.mark.parametrize(
    "other",
    [
        {"precision": Precision.FP32},
        {"max_context_length": 128},
        {"accelerator_count": 2},
        {"enable_addons": True},
        {"settings": FleetSettings(max_batch_tokens=64, max_batch_tokens_on_cpu=64)},
        {"version": "2"},
        {"info": msgspec.structs.replace(sample_info(), file_sha256={"model.safetensors": "ab"})},
    ],
)
def test_a_key_changes_with_all_that_memory_depends_on(other: dict[str, Any]) -> None:
    assert key(**other) != key()


def test_a_key_tells_weights_in_8_bits_from_converted_ones() -> None:
    device = msgspec.structs.replace(fake_device(), is_cuda=True, multiplies_fp8=True)
    keys = {
        footprint_key(sample_deployment(precision=each), sample_info(), FleetSettings(), device, version="1")
        for each in (None, Precision.FP8, Precision.BF16)
    }
    assert len(keys) == 2


def test_a_key_ignores_names_and_the_size_of_the_kv_cache() -> None:
    assert key(id="another", kv_cache_fraction=0.5) == key()


def test_the_first_measurement_is_taken_as_it_is() -> None:
    assert learn("k", None, loaded(500, 200), load_s=8.0, is_warm=False, now=7.0) == Footprint(
        key="k", num_bytes=500, kv_bytes=200, load_s=8.0, warm_load_s=None, measured_at=7.0
    )


def test_bytes_rise_at_once_and_fall_slowly() -> None:
    first = learn("k", None, loaded(500, 200), 8.0, is_warm=False, now=0.0)
    larger = learn("k", first, loaded(700, 300), 8.0, is_warm=False, now=1.0)
    assert (larger.num_bytes, larger.kv_bytes) == (700, 300)
    smaller = learn("k", larger, loaded(300, 100), 8.0, is_warm=False, now=2.0)
    assert smaller.num_bytes - smaller.kv_bytes == round(400 - NEWEST_WEIGHT * 200)


def test_cold_and_warm_loads_are_averaged_apart() -> None:
    known = learn("k", None, loaded(5, 2), 10.0, is_warm=False, now=0.0)
    known = learn("k", known, loaded(5, 2), 2.0, is_warm=True, now=1.0)
    assert (known.load_s, known.warm_load_s) == (10.0, 2.0)
    known = learn("k", known, loaded(5, 2), 20.0, is_warm=False, now=2.0)
    assert known.load_s == pytest.approx(10 + NEWEST_WEIGHT * 10)
    assert known.warm_load_s == 2.0


def test_before_the_first_cold_load_a_warm_one_is_the_guess() -> None:
    assert learn("k", None, loaded(5, 2), 2.0, is_warm=True, now=0.0).load_s == 2.0
