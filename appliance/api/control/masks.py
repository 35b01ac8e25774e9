"""The `readMask` of answers: only the fields that it names, `name,status.message`; empty or `*`: all. Pure."""

from typing import Any, NamedTuple

import msgspec

from appliance.api.control.fields import Field, find_field, read_field

MASK_FIELDS_MAX = 100


class Mask(NamedTuple):
    fields: tuple[Field, ...] = ()
    """None: everything."""

    def apply(self, resource: msgspec.Struct) -> Any:
        """The resource, or an object with what is left of it."""
        if not self.fields:
            return resource
        shown: dict[str, Any] = {}
        for field in self.fields:
            value = read_field(resource, field)
            if value is None:
                continue
            *outer, last = field.wire_name.split(".")
            place = shown
            for name in outer:
                place = place.setdefault(name, {})
            place[last] = msgspec.to_builtins(value)
        return shown


def parse_mask(text: str, answer: type[msgspec.Struct]) -> Mask:
    """Raises `invalid` naming a field that there is not."""
    names = [name for part in text.split(",")[:MASK_FIELDS_MAX] if (name := part.strip())]
    if not names or "*" in names:
        return Mask()
    return Mask(tuple(find_field(answer, name, "readMask") for name in names))
