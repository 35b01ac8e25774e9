"""What form of a picture a client accepts: its Accept header, read as HTTP says. Knows no route."""

from enum import StrEnum

from appliance.errors import Code, HearthError

HEADER = "accept"
ANYTHING = "*/*"


class Form(StrEnum):
    PNG = "image/png"
    JPEG = "image/jpeg"
    JSON = "application/json"
    EVENTS = "text/event-stream"


_FORMS = {form.value: form for form in Form} | {"image/jpg": Form.JPEG, "image/*": Form.PNG}
_OF_ONE_PICTURE = {Form.PNG, Form.JPEG}


def choose_form(accept: str, num_images: int, param: str) -> Form:
    """The best liked that can be had; an image file holds one picture. Raises `invalid` naming `param` or the header.

    Who takes anything is sent an image file, or JSON where there are several pictures.
    """
    anything = Form.PNG if num_images == 1 else Form.JSON
    liked = [anything if name == ANYTHING else _FORMS.get(name) for name in _by_preference(accept or ANYTHING)]
    known = [form for form in liked if form is not None]
    for form in known:
        if num_images == 1 or form not in _OF_ONE_PICTURE:
            return form
    if known:
        raise HearthError(Code.INVALID, f"{param}: several pictures come as application/json, which you refuse", param)
    raise HearthError(Code.INVALID, f"{HEADER}: there are {', '.join(Form)}", HEADER)


def _by_preference(accept: str) -> list[str]:
    """Media types, best first, without those that are refused."""
    weighed = []
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = next((_weight(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
        if name and weight > 0:
            weighed.append((weight, name))
    return [name for _, name in sorted(weighed, key=lambda each: -each[0])]


def _weight(text: str) -> float:
    try:
        return min(float(text), 1.0)
    except ValueError:
        return 0.0
