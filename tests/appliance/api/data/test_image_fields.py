import msgspec
import pytest

from appliance.api.data.accepting import Form
from appliance.api.data.generation import IGNORED_FIELDS_HEADER
from appliance.api.data.image_fields import ImageFields, file_format, ignored_headers
from appliance.errors import HearthError


@pytest.mark.parametrize("name", ["style_preset", "apply_invisible_watermark", "return_latents"])
def test_what_is_not_carried_out_is_refused_by_name(name: str) -> None:
    value = "anime" if name == "style_preset" else True
    fields = msgspec.convert({name: value}, ImageFields)
    with pytest.raises(HearthError) as caught:
        fields.refuse_unserved()
    assert caught.value.param == name


def test_what_is_switched_off_is_no_reason_to_refuse() -> None:
    ImageFields(style_preset="", apply_invisible_watermark=False, return_latents=False).refuse_unserved()


def test_what_has_no_effect_is_told() -> None:
    fields = ImageFields(model="stable-diffusion-xl-1024-v1-0", lora_weight_filename="x.safetensors")
    assert ignored_headers(fields, "colour", "crop_padding") == {
        IGNORED_FIELDS_HEADER: "colour, model, lora_weight_filename, crop_padding"
    }
    assert ignored_headers(ImageFields(), "") == {}


def test_only_a_jpeg_file_is_one() -> None:
    assert [file_format(form) for form in Form] == ["png", "jpeg", "png", "png"]
