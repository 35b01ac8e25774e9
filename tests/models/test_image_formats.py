import pytest

from models.image_formats import image_format


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x89PNG\r\n\x1a\n....", "PNG"),
        (b"\xff\xd8\xff\xe0....", "JPEG"),
        (b"GIF87a...", "GIF"),
        (b"GIF89a...", "GIF"),
        (b"BM......", "BMP"),
        (b"II*\0....", "TIFF"),
        (b"MM\0*....", "TIFF"),
        (b"P6\n1 1\n255\n...", "PPM"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WEBP"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"%PDF-1.7", None),
        (b"", None),
        (b"\x89PNG", None),
    ],
)
def test_a_format_is_told_by_its_first_bytes(data: bytes, name: str | None) -> None:
    assert image_format(data) == name
