import pytest

from appliance.api.data.forms import Form
from appliance.api.data.image_files import checked_image, required_image
from appliance.errors import Code, HearthError
from tests.appliance.api.data.painters import PIXEL


def test_an_image_is_told_by_its_first_bytes() -> None:
    assert required_image(Form({}, {"init_image": PIXEL}), "init_image") == PIXEL
    assert checked_image(b"\x89PNG\r\n\x1a\nand no more", "mask")


@pytest.mark.parametrize("data", [b"", b"<svg></svg>", b"%PDF-1.7", b"\0\0\0\x1cftypavif", b"RIFF0000WAVE"])
def test_anything_else_is_refused_by_the_name_of_its_part(data: bytes) -> None:
    with pytest.raises(HearthError) as caught:
        required_image(Form({}, {"init_image": data}), "init_image")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "init_image")
