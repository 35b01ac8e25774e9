import io
import struct
import time
import zlib
from collections.abc import Iterator

import pytest
from PIL import Image

from models.framed_child import FramedChild
from models.image_decoding import EDGE_MAX, PIXELS_MAX, ImageDecoder, ImageRefused, Pixels
from models.image_formats import IMAGE_FORMATS
from models.info import AreaSize, FixedSize
from tests.fakes.vision_info import vision_info

PATIENCE_S = 30.0
RED, WHITE = (255, 0, 0), (255, 255, 255)


AS_IT_IS = vision_info(AreaSize(min_pixels=1, max_pixels=2**24, multiple=1))


@pytest.fixture(scope="module")
def decoder() -> Iterator[ImageDecoder]:
    with ImageDecoder(AS_IT_IS) as decoder:
        yield decoder


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode(decoder: ImageDecoder, data: bytes) -> Pixels:
    return decoder.decode(data, PATIENCE_S)


def png(width: int, height: int, rows: bytes, *, bit_depth: int = 1, colour_type: int = 0) -> bytes:
    """A file whose header may say what it likes."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("format", IMAGE_FORMATS)
def test_every_format_is_read(decoder: ImageDecoder, format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    height, width, rgb = decode(decoder, encoded(Image.new("RGB", (5, 3), RED), format, **options))
    assert (height, width) == (3, 5)
    assert len(rgb) == 45
    assert rgb[0] >= 250
    assert max(rgb[1:3]) <= 5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
def test_every_kind_of_pixel_becomes_rgb(decoder: ImageDecoder, mode: str) -> None:
    format = "TIFF" if mode not in {"LA", "P"} else "PNG"
    assert len(decode(decoder, encoded(Image.new(mode, (4, 2)), format)).rgb) == 24


def test_transparent_pixels_lie_on_white(decoder: ImageDecoder) -> None:
    image = Image.new("RGBA", (2, 1), (*RED, 0))
    image.putpixel((0, 0), (*RED, 255))
    assert decode(decoder, encoded(image, "PNG")).rgb == bytes(RED + WHITE)


def test_sixteen_bits_of_grey_keep_their_brightness(decoder: ImageDecoder) -> None:
    assert decode(decoder, encoded(Image.new("I;16", (1, 1), 0x8000), "PNG")).rgb == bytes([128, 128, 128])


def test_an_image_is_turned_as_its_camera_noted(decoder: ImageDecoder) -> None:
    image = Image.new("RGB", (3, 1), WHITE)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6
    height, width, rgb = decode(decoder, encoded(image, "PNG", exif=exif))
    assert (height, width) == (3, 1)
    assert rgb == bytes(RED + WHITE + WHITE)


def test_of_an_animation_only_the_first_frame_is_decoded(decoder: ImageDecoder) -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in range(200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    began = time.monotonic()
    assert decode(decoder, data).rgb == bytes(48)
    assert time.monotonic() - began < 5
    assert decode(decoder, data[: len(data) // 2]).rgb == bytes(48)  # the rest is never looked at


def test_a_header_is_believed_before_anything_is_decoded(decoder: ImageDecoder) -> None:
    began = time.monotonic()
    for width, height in [(30_000, 30_000), (13_000, 13_000), (EDGE_MAX + 1, 200), (2**31 - 1, 2**31 - 1)]:
        with pytest.raises(ImageRefused, match="pixels"):
            decode(decoder, png(width, height, zlib.compress(bytes(1000))))
    with pytest.raises(ImageRefused, match=str(PIXELS_MAX)):
        decode(decoder, b"P6\n99999 99999\n255\n" + bytes(100))
    assert time.monotonic() - began < 10


def test_an_image_at_the_limit_fits_into_the_childs_memory(decoder: ImageDecoder) -> None:
    small = vision_info(FixedSize(height=8, width=8, shortest_edge=8))
    row = bytes(1 + 4 * 7000)
    packed = zlib.compressobj()
    rows = b"".join(packed.compress(row) for _ in range(7000)) + packed.flush()
    with ImageDecoder(small) as patient:
        assert len(decode(patient, png(7000, 7000, rows, bit_depth=8, colour_type=6)).rgb) == 3 * 8 * 8


@pytest.mark.parametrize("size", [(1, 201), (20_000, 1), (0, 5)])
def test_endless_shapes_are_refused(decoder: ImageDecoder, size: tuple[int, int]) -> None:
    with pytest.raises(ImageRefused):
        decode(decoder, png(*size, zlib.compress(bytes(1000))))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM"])
def test_half_a_file_is_refused(decoder: ImageDecoder, format: str) -> None:
    image = Image.effect_noise((64, 64), 60).convert("RGB")
    data = encoded(image, format)
    for length in (8, len(data) // 2):
        with pytest.raises(ImageRefused):
            decode(decoder, data[:length])


@pytest.mark.parametrize("data", [b"", b"<svg/>", b"%PDF-1.7", bytes(100), b"RIFF....WAVE"])
def test_other_formats_never_reach_the_child(decoder: ImageDecoder, data: bytes) -> None:
    with pytest.raises(ImageRefused, match="formats"):
        decode(decoder, data)


def test_rubbish_behind_a_good_beginning_is_refused_and_the_next_image_is_read(decoder: ImageDecoder) -> None:
    for magic in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"P6", b"RIFF....WEBP"):
        with pytest.raises(ImageRefused):
            decode(decoder, magic + bytes(range(256)) * 8)
    assert decode(decoder, encoded(Image.new("RGB", (1, 1), RED), "PNG")).rgb == bytes(RED)


def test_a_child_that_takes_too_long_is_replaced() -> None:
    with ImageDecoder(AS_IT_IS) as decoder:
        data = encoded(Image.new("RGB", (1, 1), RED), "PNG")
        decode(decoder, data)
        with pytest.raises(ImageRefused, match="longer than"):
            decoder.decode(data, 0.0)
        assert decode(decoder, data).rgb == bytes(RED)


def test_a_killed_child_is_replaced() -> None:
    with ImageDecoder(AS_IT_IS) as decoder:
        data = encoded(Image.new("RGB", (1, 1), RED), "PNG")
        decode(decoder, data)
        child: FramedChild = decoder._child
        assert child._process is not None
        child._process.kill()
        child._process.wait()
        assert decode(decoder, data).rgb == bytes(RED)


def test_nobody_else_may_take_larger_images_because_of_us() -> None:
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_an_image_is_scaled_and_cut_or_padded_to_one_size() -> None:
    wide = Image.new("RGB", (30, 10), WHITE)
    wide.paste(RED, (10, 0, 20, 10))
    data = encoded(wide, "PNG")
    with ImageDecoder(vision_info(FixedSize(height=10, width=10, shortest_edge=10))) as decoder:
        assert decode(decoder, data) == Pixels(10, 10, bytes(RED * 100))
    with ImageDecoder(vision_info(FixedSize(height=10, width=10))) as decoder:
        assert bytes(WHITE) in decode(decoder, data).rgb
    with ImageDecoder(vision_info(FixedSize(height=30, width=30, shortest_edge=30, padding=(1, 2, 3)))) as decoder:
        assert decode(decoder, data).rgb[:3] == bytes([1, 2, 3])
