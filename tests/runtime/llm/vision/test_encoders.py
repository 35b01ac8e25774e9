"""Encoders against transformers' own image processors and `get_image_features`, from the file to the decoder's rows."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, Qwen2VLForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from models.image_decoding import ImageDecoder
from models.info import AreaSize, FixedSize, VisionInfo
from models.llm_folder import inspect_llm
from runtime.llm.vision.encoders import ClipEncoder, ImageEncoder, Qwen2VlEncoder, load_encoder
from runtime.llm.vision.features import Encoding
from tests.fakes.tiny_vlm import IMAGE_EDGE, PATCH_SIZE, VisionFamily
from tests.runtime.llm.vision.images import prompt_image, random_pixels

PATIENCE_S = 30.0
SIZES = [(IMAGE_EDGE, IMAGE_EDGE), (60, 40), (31, 97), (5, 5)]
EDGES = {"size": {"shortest_edge": IMAGE_EDGE}, "crop_size": {"height": IMAGE_EDGE, "width": IMAGE_EDGE}}


def load(directory: Path, dtype: torch.dtype = torch.float32) -> ImageEncoder:
    return load_encoder(directory, inspect_llm(directory), dtype=dtype, device=torch.device("cpu"))


def finished(encoding: Encoding) -> torch.Tensor:
    with torch.inference_mode():
        while True:
            try:
                next(encoding)
            except StopIteration as end:
                rows: torch.Tensor = end.value
                return rows


@pytest.fixture(scope="module")
def clip(llava: Path) -> ClipEncoder:
    encoder = load(llava)
    assert isinstance(encoder, ClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def qwen_encoder(qwen: Path) -> Qwen2VlEncoder:
    encoder = load(qwen)
    assert isinstance(encoder, Qwen2VlEncoder)
    return encoder


@pytest.fixture(params=SIZES)
def picture(request: pytest.FixtureRequest) -> Image.Image:
    height, width = request.param
    return Image.fromarray(random_pixels(height, width, 7))


def decoded(vision: VisionInfo, picture: Image.Image) -> np.ndarray[Any, Any]:
    file = io.BytesIO()
    picture.save(file, "PNG")
    with ImageDecoder(vision) as decoder:
        height, width, rgb = decoder.decode(file.getvalue(), PATIENCE_S)
    return np.frombuffer(rgb, dtype=np.uint8).reshape(height, width, 3)


def test_pixels_are_those_of_clips_processor(clip: ClipEncoder, picture: Image.Image) -> None:
    expected = CLIPImageProcessorPil(**EDGES)(picture, return_tensors="np")["pixel_values"][0]
    assert np.array_equal(clip.normalise(decoded(clip.info, picture)), expected)


def test_pixels_are_those_of_llavas_processor(clip: ClipEncoder, picture: Image.Image) -> None:
    mean, std = (0.5, 0.25, 0.75), (0.2, 0.3, 0.4)
    size = FixedSize(height=IMAGE_EDGE, width=IMAGE_EDGE, shortest_edge=IMAGE_EDGE, padding=(127, 63, 191))
    vision = _replaced(clip.info, size=size, mean=mean, std=std)
    processor = LlavaImageProcessorPil(**EDGES, do_pad=True, image_mean=mean, image_std=std)
    expected = processor(picture, return_tensors="np")["pixel_values"][0]
    assert np.array_equal(ImageEncoder(vision).normalise(decoded(vision, picture)), expected)


def test_patches_are_those_of_qwen2_vls_processor(qwen_encoder: Qwen2VlEncoder, picture: Image.Image) -> None:
    rules = qwen_encoder.info.size
    assert isinstance(rules, AreaSize)
    processor = Qwen2VLImageProcessorPil(
        patch_size=PATCH_SIZE, min_pixels=rules.min_pixels, max_pixels=rules.max_pixels
    )
    expected = processor(picture, return_tensors="np")
    pixels = decoded(qwen_encoder.info, picture)
    assert np.array_equal(qwen_encoder.cut(pixels), expected["pixel_values"])
    assert prompt_image(qwen_encoder.info, pixels, 0).grid == tuple(expected["image_grid_thw"][0])


def test_rows_are_those_of_transformers_llava(llava: Path, clip: ClipEncoder) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(llava, dtype=torch.float32)
    image = prompt_image(clip.info, random_pixels(IMAGE_EDGE, IMAGE_EDGE, seed=3), 0)
    pixels = torch.from_numpy(clip.normalise(image.pixels)).unsqueeze(0)
    with torch.inference_mode():
        [expected] = model.model.get_image_features(pixels, return_dict=True).pooler_output
    assert torch.allclose(finished(clip.encode(image)), expected, atol=1e-5)


def test_rows_are_those_of_transformers_qwen2_vl(qwen: Path, qwen_encoder: Qwen2VlEncoder) -> None:
    model = Qwen2VLForConditionalGeneration.from_pretrained(qwen, dtype=torch.float32)
    for height, width in [(28, 28), (42, 70), (84, 14)]:
        image = prompt_image(qwen_encoder.info, random_pixels(height, width, seed=3), 0)
        patches = torch.from_numpy(qwen_encoder.cut(image.pixels))
        with torch.inference_mode():
            [expected] = model.model.get_image_features(
                patches, torch.tensor([image.grid]), return_dict=True
            ).pooler_output
        assert torch.allclose(finished(qwen_encoder.encode(image)), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_an_encoder_runs_in_the_dtype_that_is_served(
    directories: dict[VisionFamily, Path], family: VisionFamily
) -> None:
    encoder = load(directories[family], torch.bfloat16)
    rows = finished(encoder.encode(prompt_image(encoder.info, random_pixels(IMAGE_EDGE, IMAGE_EDGE, seed=3), 0)))
    assert rows.dtype is torch.bfloat16
    assert rows.isfinite().all()


def _replaced(vision: VisionInfo, **changes: object) -> VisionInfo:
    fields = {name: getattr(vision, name) for name in vision.__struct_fields__}
    return VisionInfo(**{**fields, **changes})
