import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from models.llm_folder import inspect_llm
from runtime.engine import RequestRefused
from runtime.llm.vision.prompt_images import IMAGES_MAX, PromptImages, image_files
from runtime.llm.vocabulary import Vocabulary
from runtime.submission import ChatMessage, ImagePart, TextPart
from tests.fakes.tiny_vlm import IMAGE_TOKEN_ID

MAX_NUM_TOKENS = 100


def picture(width: int = 30, height: int = 30, shade: int = 0, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 0, 0)).save(file, format)
    return file.getvalue()


def opened(directory: Path) -> PromptImages:
    vision = inspect_llm(directory).vision
    assert vision is not None
    return PromptImages(vision, Vocabulary.load(directory), MAX_NUM_TOKENS)


@pytest.fixture(scope="module")
def llava_images(llava: Path) -> Iterator[PromptImages]:
    images = opened(llava)
    yield images
    images.close()


@pytest.fixture(scope="module")
def qwen_images(qwen: Path) -> Iterator[PromptImages]:
    images = opened(qwen)
    yield images
    images.close()


def test_each_placeholder_is_drawn_out_to_what_its_image_fills(qwen_images: PromptImages) -> None:
    seen = qwen_images.see([picture(56, 28), picture(28, 28)], "images")
    assert [image.num_tokens for image in seen] == [8, 4]
    token_ids, images = qwen_images.expand([7, IMAGE_TOKEN_ID, 8, IMAGE_TOKEN_ID], seen, "images")
    assert token_ids == [7, *[IMAGE_TOKEN_ID] * 8, 8, *[IMAGE_TOKEN_ID] * 4]
    assert [(image.start, image.num_tokens, image.grid) for image in images] == [(1, 8, (1, 4, 8)), (10, 4, (1, 4, 4))]


def test_a_digest_is_of_what_is_seen_and_of_its_shape(qwen_images: PromptImages) -> None:
    a, same, shade, turned = qwen_images.see(
        [picture(56, 28), picture(56, 28, format="BMP"), picture(56, 28, shade=9), picture(28, 56)], "images"
    )
    assert a.digest == same.digest
    assert len({a.digest, shade.digest, turned.digest}) == 3


@pytest.mark.parametrize("num_markers", [0, 1, 3])
def test_places_and_images_must_match(llava_images: PromptImages, num_markers: int) -> None:
    seen = llava_images.see([picture(), picture(shade=1)], "images")
    with pytest.raises(RequestRefused, match=f"{num_markers} places are marked in the prompt for 2 images") as refused:
        llava_images.expand([IMAGE_TOKEN_ID] * num_markers, seen, "images")
    assert refused.value.param == "images"


def test_a_bad_image_is_named_by_its_number(llava_images: PromptImages) -> None:
    with pytest.raises(RequestRefused, match="image 2 of 3 is damaged"):
        llava_images.see([picture(), picture()[:40], picture()], "messages")
    with pytest.raises(RequestRefused, match="image 1 of 1 is in none of the formats"):
        llava_images.see([b"<svg/>"], "messages")


def test_images_that_cannot_fit_are_refused_before_the_rest_is_decoded(llava_images: PromptImages) -> None:
    files = [picture(shade=shade) for shade in range(8)]
    with pytest.raises(RequestRefused, match="prompt is too long: 7 of its images need 112 tokens"):
        llava_images.see([*files[:7], b"never looked at"], "images")
    assert len(llava_images.see(files[:6], "images")) == 6


def test_their_number_is_limited_whatever_the_daemon_allows(llava_images: PromptImages) -> None:
    with pytest.raises(RequestRefused, match=f"more than {IMAGES_MAX} images"):
        llava_images.see([picture()] * (IMAGES_MAX + 1), "images")


def test_the_same_file_is_decoded_once(llava_images: PromptImages) -> None:
    seen = llava_images.see([picture()] * 50, "images")
    assert len(seen) == 50
    assert all(image is seen[0] for image in seen)


def test_a_completions_marker_becomes_the_models_own(llava_images: PromptImages, qwen_images: PromptImages) -> None:
    assert llava_images.marked("a <image> b") == "a <image> b"
    assert qwen_images.marked("a <image> b") == "a <|start|><|image_pad|><|stop|> b"
    assert qwen_images.marked("a <|image_pad|> <image>") == "a <|image_pad|> <image>"


def test_files_come_in_the_order_of_the_messages() -> None:
    messages = [
        ChatMessage(role="user", content="text"),
        ChatMessage(role="user", content=[ImagePart(data=b"1"), TextPart(text="x"), ImagePart(data=b"2")]),
        ChatMessage(role="user", content=[ImagePart(data=b"3")]),
    ]
    assert image_files(messages) == [b"1", b"2", b"3"]
