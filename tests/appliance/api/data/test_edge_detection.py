import io

from PIL import Image

from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.data.painters import PIXEL, make_painter, post


def halves(dark: int, bright: int) -> bytes:
    image = Image.new("L", (8, 4), dark)
    image.paste(bright, (4, 0, 8, 4))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def test_edges_come_as_a_picture(api: Api) -> None:
    path = f"/inference/v1/image_generation/{await make_painter(api)}/canny_edge_detection"
    answer = await post(api, path, {"image": halves(0, 255), "min_val": "100", "max_val": "200.5", "colour": "red"})
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["hearth-ignored-fields"] == "colour"
    assert Image.open(io.BytesIO(answer.body)).tobytes() == bytes([0, 0, 0, 255, 0, 0, 0, 0]) * 4
    faint = await post(api, path, {"image": halves(0, 40)})
    assert not any(Image.open(io.BytesIO(faint.body)).tobytes())
    assert not api.router.tasks, "no model has a part in it"


async def test_what_has_no_edges_to_be_found_is_refused_by_name(api: Api) -> None:
    model = await make_painter(api)
    path = f"/inference/v1/image_generation/{model}/canny_edge_detection"
    for fields, param in (
        ({"image": b"<svg></svg>"}, "image"),
        ({"image": PIXEL[:-1]}, "image"),
        ({"image": PIXEL, "min_val": "-1"}, "min_val"),
        ({"image": PIXEL, "max_val": "nan"}, "max_val"),
    ):
        assert (await post(api, path, fields)).refusal == (400, param)
    elsewhere = f"/inference/v1/image_generation/{READY_MODEL}/canny_edge_detection"
    assert (await post(api, elsewhere, {"image": PIXEL})).refusal == (400, "model_id")
