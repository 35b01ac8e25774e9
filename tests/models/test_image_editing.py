import io

import pytest
from PIL import Image

from models.image_editing import PIXELS_OF_EDGES_MAX, edit
from models.image_edits import FindEdges, MaskTransparent, Outcome


def file_of(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def opened(outcome: Outcome) -> Image.Image:
    assert outcome.error is None
    return Image.open(io.BytesIO(outcome.png))


def refusal(outcome: Outcome) -> str:
    assert not outcome.png
    assert outcome.error is not None
    return outcome.error


def two_halves(size: tuple[int, int] = (8, 4)) -> Image.Image:
    image = Image.new("RGB", size, "black")
    image.paste("white", (size[0] // 2, 0, *size))
    return image


def test_edges_are_a_picture_of_the_same_size() -> None:
    edges = opened(edit(FindEdges(image=file_of(two_halves(), "JPEG", quality=100), low=100, high=200)))
    assert (edges.format, edges.mode, edges.size) == ("PNG", "L", (8, 4))
    assert [edges.getpixel((column, 1)) for column in range(8)] == [0, 0, 0, 255, 0, 0, 0, 0]


def test_edges_are_found_in_the_picture_as_its_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = opened(edit(FindEdges(image=file_of(two_halves(), exif=exif), low=100, high=200)))
    assert turned.size == (4, 8)
    assert [turned.getpixel((1, row)) for row in range(8)] == [0, 0, 0, 255, 0, 0, 0, 0]


def test_edges_of_a_vast_picture_are_not_looked_for() -> None:
    edge = int(PIXELS_OF_EDGES_MAX**0.5)
    vast = file_of(Image.new("1", (edge + 1, edge)))
    assert str(edge + 1) in refusal(edit(FindEdges(image=vast, low=0, high=0)))


def mask(alpha: list[int]) -> Image.Image:
    image = Image.new("RGBA", (len(alpha), 1), "red")
    image.putalpha(Image.frombytes("L", image.size, bytes(alpha)))
    return image


def masked(mask_file: bytes, width: int = 3) -> Outcome:
    return edit(MaskTransparent(image=file_of(Image.new("RGB", (width, 1))), mask=mask_file))


def test_what_is_transparent_becomes_white() -> None:
    image = opened(masked(file_of(mask([0, 100, 255]))))
    assert (image.mode, image.tobytes()) == ("L", bytes([255, 155, 0]))


def test_a_palette_may_hold_the_transparent_colour() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    assert opened(masked(file_of(image, transparency=1))).tobytes() == bytes([0, 255, 0])


@pytest.mark.parametrize("image", [mask([255, 255, 255]), Image.new("RGB", (3, 1)), Image.new("L", (3, 1))])
def test_a_mask_without_transparent_pixels_is_refused(image: Image.Image) -> None:
    assert "transparent" in refusal(masked(file_of(image)))


def test_mask_and_image_have_one_size() -> None:
    assert refusal(masked(file_of(mask([0, 0])))) == "has 2 by 1 pixels, and the image 3 by 1"


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", file_of(two_halves())[:50], b"<svg></svg>", b"BM" * 100])
def test_what_cannot_be_decoded_is_damaged(data: bytes) -> None:
    assert "damaged" in refusal(edit(FindEdges(image=data, low=0, high=0)))
    assert "damaged" in refusal(masked(data))
