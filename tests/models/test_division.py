import msgspec
import pytest

from models.division import find_indivisible
from models.info import FixedSize, ModelInfo
from tests.appliance.orchestrator.samples import sample_info
from tests.fakes.vision_info import vision_info


def info(num_heads: int, num_kv_heads: int) -> ModelInfo:
    attention = msgspec.structs.replace(sample_info().attention, num_heads=num_heads, num_kv_heads=num_kv_heads)
    return msgspec.structs.replace(sample_info(), attention=attention)


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "num_devices"),
    [(32, 8, 1), (32, 8, 2), (32, 8, 8), (32, 8, 16), (32, 1, 4), (14, 2, 2), (7, 3, 1)],
)
def test_heads_are_shared_out_whole_and_kv_heads_may_be_shared(
    num_heads: int, num_kv_heads: int, num_devices: int
) -> None:
    assert not find_indivisible(info(num_heads, num_kv_heads), num_devices)


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "num_devices", "reason"),
    [(14, 2, 4, "14 attention heads"), (32, 8, 3, "32 attention heads"), (12, 6, 4, "6 KV heads")],
)
def test_a_head_is_never_cut(num_heads: int, num_kv_heads: int, num_devices: int, reason: str) -> None:
    assert reason in find_indivisible(info(num_heads, num_kv_heads), num_devices)


def test_a_model_that_reads_images_stays_whole() -> None:
    seeing = msgspec.structs.replace(info(32, 8), vision=vision_info(FixedSize(height=8, width=8)))
    assert not find_indivisible(seeing, 1)
    assert "images" in find_indivisible(seeing, 2)
