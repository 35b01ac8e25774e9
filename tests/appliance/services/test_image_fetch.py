import pytest

from appliance.config import ImageSettings, load_config
from appliance.errors import Code, HearthError
from appliance.services.image_fetch import fetch_image
from tests.appliance.services.test_media_fetch import IMAGE, Canary, allowing
from tests.appliance.services.test_media_fetch import canary as canary


async def test_an_image_is_as_large_as_allowed_and_no_larger(canary: Canary) -> None:
    fitting = allowing(canary.origin, bytes_max=len(IMAGE))
    assert await fetch_image(f"{canary.origin}/x.png", fitting, "images[0]") == IMAGE
    with pytest.raises(HearthError, match=r"images\[0\]: the image is larger than") as refused:
        await fetch_image(f"{canary.origin}/x.png", allowing(canary.origin, bytes_max=len(IMAGE) - 1), "images[0]")
    assert refused.value.code is Code.TOO_LARGE


async def test_a_client_is_told_what_to_send_instead() -> None:
    with pytest.raises(HearthError, match=r"images are not fetched here .* send the image as a data: URI"):
        await fetch_image("https://images.test/x.png", ImageSettings(), "images[0]")


def test_origins_come_from_the_environment_as_words_and_are_checked_at_start() -> None:
    environ = {"HEARTH_IMAGE_ORIGINS": "https://images.test http://10.0.0.1:9000"}
    assert load_config(environ=environ).images.image_origins == ["https://images.test", "http://10.0.0.1:9000"]
    for origin in ("images.test", "ftp://images.test", "https://", "https://images.test/path", "file:///etc"):
        with pytest.raises(HearthError, match="image_origins"):
            load_config(environ={"HEARTH_IMAGE_ORIGINS": origin})
