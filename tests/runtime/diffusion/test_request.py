import numpy as np

from runtime.diffusion.request import BatchKey, ControlPicture, DrawRequest

PIXELS = np.zeros((64, 96, 3), dtype=np.uint8)


def test_what_pictures_must_have_in_common_and_what_a_waiting_one_takes() -> None:
    request = DrawRequest(
        request_id="r",
        tenant="",
        prompt="four",
        negative_prompt="",
        width=96,
        height=64,
        num_steps=1,
        guidance_scale=1.0,
        seeds=[1],
        image=PIXELS,
        control=ControlPicture("canny", PIXELS, 1.0, 0.0, 1.0),
    )
    assert request.batch_key == BatchKey(96, 64, "canny")
    assert request.num_pixels == 96 * 64
    assert request.num_bytes == 4 + 2 * PIXELS.nbytes
