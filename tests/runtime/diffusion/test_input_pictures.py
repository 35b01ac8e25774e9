"""Image files of strangers: what is wrong with one is said, and the next is decoded all the same."""

from typing import Any

import pytest
from PIL import Image

from runtime.tasks.images import Control
from tests.fakes.tiny_diffusion import CONTROL_NET
from tests.runtime.diffusion.conftest import Studio, picture, png, refusal_of

CONTROL: dict[str, Any] = {"name": CONTROL_NET, "image": png(picture())}


@pytest.mark.parametrize(
    ("fields", "param", "why"),
    [
        ({"image": b"no image"}, "image", "none of the formats"),
        ({"image": png(picture())[:200]}, "image", "damaged"),
        ({"image": png(picture()), "mask": b"GIF89a"}, "mask", "damaged"),
        ({"control": Control(**CONTROL | {"image": b"<svg/>"})}, "control_image", "none of the formats"),
        ({"image": png(Image.new("1", (13_000, 13_000)))}, "image", "pixels"),
        ({"image": png(Image.new("RGB", (2, 30_000)))}, "image", "times the other"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_a_file_that_is_no_good_is_refused_by_name(sdxl: Studio, fields: dict[str, Any], param: str, why: str) -> None:
    refusal = refusal_of(sdxl, **fields)
    assert refusal.param == param
    assert why in refusal.message


def test_after_a_broken_image_the_next_is_decoded(sdxl: Studio) -> None:
    refusal_of(sdxl, image=png(picture())[:200])
    assert sdxl.draw(image=png(picture()), strength=0.5)[0].shape == (64, 64, 3)


def test_a_picture_made_from_an_image_has_its_size(sdxl: Studio) -> None:
    assert sdxl.draw(image=png(picture(size=(99, 70))), strength=0.5)[0].shape == (72, 96, 3)
    assert sdxl.draw(image=png(picture(size=(400, 300))), strength=0.5, width=64, height=72)[0].shape == (72, 64, 3)


def test_a_larger_image_than_is_made_is_shrunk(sdxl: Studio) -> None:
    made = sdxl.draw(image=png(picture(size=(800, 600))), strength=0.5)[0]
    assert made.shape[0] * made.shape[1] <= 4 * 64 * 64
    assert made.shape[1] / made.shape[0] == pytest.approx(4 / 3, rel=0.1)
