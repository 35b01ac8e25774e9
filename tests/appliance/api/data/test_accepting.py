import pytest

from appliance.api.data.accepting import Form, choose_form
from appliance.errors import Code, HearthError


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.PNG),
        ("*/*", Form.PNG),
        ("image/*", Form.PNG),
        ("image/png", Form.PNG),
        ("image/jpeg", Form.JPEG),
        ("image/jpg", Form.JPEG),
        ("IMAGE/JPEG", Form.JPEG),
        ("application/json", Form.JSON),
        ("application/json; charset=utf-8", Form.JSON),
        ("text/event-stream", Form.EVENTS),
        ("image/webp, image/jpeg", Form.JPEG),
        ("image/webp,*/*;q=0.8", Form.PNG),
        ("application/json;q=0.5, image/jpeg;q=0.9", Form.JPEG),
        ("image/png;q=0, application/json", Form.JSON),
        ("image/png;q=nonsense, image/jpeg;q=0.1", Form.JPEG),
        ("image/png;q=nan, image/jpeg", Form.JPEG),
        (", ,image/jpeg,", Form.JPEG),
    ],
)
def test_the_best_liked_that_can_be_had_is_taken(accept: str, form: Form) -> None:
    assert choose_form(accept, 1, "samples") is form


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.JSON),
        ("*/*", Form.JSON),
        ("image/png, application/json", Form.JSON),
        ("image/png, */*;q=0.1", Form.JSON),
        ("image/png;q=0.1, text/event-stream;q=0.01", Form.EVENTS),
    ],
)
def test_several_pictures_are_never_one_file(accept: str, form: Form) -> None:
    assert choose_form(accept, 2, "samples") is form


@pytest.mark.parametrize(
    ("accept", "num_images", "param"),
    [
        ("image/webp", 1, "accept"),
        ("text/html", 1, "accept"),
        ("image/png;q=0", 1, "accept"),
        ("nonsense", 1, "accept"),
        ("image/png", 2, "samples"),
        ("image/*, image/jpeg", 2, "samples"),
    ],
)
def test_what_cannot_be_had_is_refused(accept: str, num_images: int, param: str) -> None:
    with pytest.raises(HearthError) as caught:
        choose_form(accept, num_images, "samples")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, param)
