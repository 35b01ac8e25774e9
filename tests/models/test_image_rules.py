import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from models.image_rules import PATCHES_PER_IMAGE_MAX, scaled_size
from models.info import AreaSize, FixedSize
from models.llm_folder import inspect_llm
from models.refusal import RefusalReason
from models.vision import max_image_patches
from tests.fakes.tiny_vlm import VisionFamily
from tests.models.vision_folders import Change, copied, refusal


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("llava", lambda processor: processor.update(do_resize=False)),
        ("llava", lambda processor: processor.update(do_center_crop=False)),
        ("llava", lambda processor: processor.update(crop_size=30)),
        ("llava", lambda processor: processor.update(size={"shortest_edge": 20})),
        ("llava", lambda processor: processor.update(image_mean=[0, 0])),
        ("llava", lambda processor: processor.update(image_std=[0, 1, 1])),
        ("llava", lambda processor: processor.update(resample=9)),
        ("qwen2_vl", lambda processor: processor.update(patch_size=14)),
        ("qwen2_vl", lambda processor: processor.update(min_pixels=100_000)),
        ("qwen2_vl", lambda processor: processor.update(max_pixels=100, min_pixels=1)),
    ],
)
def test_image_processors_that_do_not_fit_the_encoder_are_refused(
    llava: Path, qwen: Path, tmp_path: Path, family: VisionFamily, change: Change
) -> None:
    error = refusal(copied(llava if family == "llava" else qwen, tmp_path, preprocessor_config=change))
    assert error.file == "preprocessor_config.json"


def test_a_missing_image_processor_is_named(llava: Path, tmp_path: Path) -> None:
    error = refusal(copied(llava, tmp_path, without="preprocessor_config.json"))
    assert (error.reason, error.file) == (RefusalReason.MISSING_FILE, "preprocessor_config.json")


def test_transformers_5_keeps_the_image_processor_in_the_processors_config(llava: Path, tmp_path: Path) -> None:
    copied(llava, tmp_path, without="preprocessor_config.json")
    settings = json.loads((llava / "preprocessor_config.json").read_bytes())
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    assert inspect_llm(tmp_path).vision == inspect_llm(llava).vision


def test_llavas_own_processor_makes_images_square_first(llava: Path, tmp_path: Path) -> None:
    def pad(processor: dict[str, Any]) -> None:
        processor.update(image_processor_type="LlavaImageProcessor", do_pad=True, image_mean=[0.5, 0.25, 1.0])

    vision = inspect_llm(copied(llava, tmp_path, preprocessor_config=pad)).vision
    assert vision is not None
    assert isinstance(vision.size, FixedSize)
    assert vision.size.padding == (127, 63, 255)


def test_images_larger_than_an_encoder_should_see_are_shrunk(qwen: Path, tmp_path: Path) -> None:
    directory = copied(qwen, tmp_path, preprocessor_config=lambda processor: processor.update(max_pixels=10**8))
    vision = inspect_llm(directory).vision
    assert vision is not None
    assert max_image_patches(vision) == PATCHES_PER_IMAGE_MAX


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_sizes_by_area_are_transformers(height: int, width: int) -> None:
    if max(height, width) > 200 * min(height, width):
        return
    rules = AreaSize(min_pixels=3136, max_pixels=1_003_520, multiple=28)
    assert scaled_size(rules, height, width) == smart_resize(height, width, 28, 3136, 1_003_520)


@pytest.mark.parametrize(("size", "scaled"), [((10, 20), (5, 10)), ((20, 10), (10, 5)), ((7, 9), (5, 6))])
def test_the_shorter_edge_is_scaled_to(size: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert scaled_size(FixedSize(height=5, width=5, shortest_edge=5), *size) == scaled
    assert scaled_size(FixedSize(height=5, width=4), *size) == (5, 4)
