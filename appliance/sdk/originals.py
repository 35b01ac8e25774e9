"""Resources as the server sent them: with fields that this client does not know, without those that were left out."""

from collections.abc import Mapping, Sequence

import msgspec

ORIGINAL = "original"


def keep(answer: object, sent: object) -> None:
    """Remember, for a decoded answer and all resources in it, the JSON that each was decoded from."""
    match answer, sent:
        case msgspec.Struct(), dict():
            if answer.__struct_config__.dict:
                answer.__dict__[ORIGINAL] = sent
            for field in msgspec.structs.fields(answer):
                keep(getattr(answer, field.name), sent.get(field.encode_name))
        case list(), list():
            for part, sent_part in zip(answer, sent, strict=True):
                keep(part, sent_part)
        case _:
            pass  # a plain value is what it is


def original_of(value: object) -> object:
    """What was sent, where it was kept; else the value itself."""
    match value:
        case msgspec.Struct() if value.__struct_config__.dict:
            return value.__dict__.get(ORIGINAL, value)
        case str() | bytes():
            return value
        case Mapping():
            return {name: original_of(part) for name, part in value.items()}
        case Sequence():
            return [original_of(part) for part in value]
        case _:
            return value
