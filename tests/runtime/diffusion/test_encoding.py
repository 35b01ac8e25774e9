import io

import numpy as np
from PIL import Image

from runtime.diffusion.encoding import encode_image
from tests.runtime.diffusion.conftest import picture

PIXELS = np.asarray(picture(size=(48, 32)))


def test_a_png_holds_every_pixel() -> None:
    with Image.open(io.BytesIO(encode_image(PIXELS, "png"))) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), PIXELS)


def test_a_jpeg_is_smaller_and_close() -> None:
    data = encode_image(PIXELS, "jpeg")
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image).astype(int) - PIXELS).mean() < 6
