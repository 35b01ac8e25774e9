import msgspec
import pytest

from scripts.ember_chat.texts import read_text


class Mistaken(msgspec.Struct, forbid_unknown_fields=True):
    no_such_table: dict[str, str]


def test_a_text_of_another_shape_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        read_text("values", Mistaken)
