import struct
from pathlib import Path

import pytest

from models.ctranslate2_file import CTranslate2File, Variable, read_model_bin
from models.refusal import ModelRefused, RefusalReason


def name(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def variable(text: str, shape: tuple[int, ...], dtype: int, data: bytes, size: int | None = None) -> bytes:
    sizes = struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, dtype, len(data) if size is None else size)
    return name(text) + sizes + data


def whole(variables: list[bytes], aliases: bytes = struct.pack("<I", 0), version: int = 6, count: int = -1) -> bytes:
    head = struct.pack("<I", version) + name("WhisperSpec") + struct.pack("<I", 3)
    return head + struct.pack("<I", len(variables) if count < 0 else count) + b"".join(variables) + aliases


def read(path: Path, content: bytes) -> CTranslate2File:
    path.write_bytes(content)
    with path.open("rb") as file:
        return read_model_bin(file)


WEIGHT = variable("a/weight", (2, 3), 1, b"123456")
NUMBER = variable("num_heads", (), 2, b"\1\0")


def test_variables_and_aliases_are_read(tmp_path: Path) -> None:
    aliases = struct.pack("<I", 1) + name("b/weight") + name("a/weight")
    found = read(tmp_path / "model.bin", whole([WEIGHT, NUMBER], aliases))
    assert found.specification == "WhisperSpec"
    assert found.variables == {"a/weight": Variable("int8", (2, 3), 6), "num_heads": Variable("int16", (), 2)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4" + bytes(100),
        whole([WEIGHT], version=7),
        whole([WEIGHT], count=2**31),
        whole([WEIGHT]) + b"more",
        whole([WEIGHT])[:-1],
        whole([WEIGHT, WEIGHT]),
        whole([variable("a", (2, 3), 1, b"12345")]),
        whole([variable("a", (2**31, 2**31, 4), 0, b"", size=0)]),
        whole([variable("a", (2**30,), 0, b"1234", size=2**32 - 1)]),
        whole([variable("a", (2**30 - 1,), 0, b"1234", size=2**32 - 4)]),
        whole([variable("a", (1, 1, 1, 1, 1), 1, b"1")]),
        whole([variable("a", (1,), 9, b"1")]),
        whole([variable("a\n", (1,), 1, b"1")]),
        whole([struct.pack("<H", 60_000) + b"x" * 60_000]),
        whole([WEIGHT], struct.pack("<I", 1) + name("b") + name("nothing")),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelRefused) as refused:
        read(tmp_path / "model.bin", content)
    assert refused.value.reason in (RefusalReason.CORRUPT_WEIGHTS, RefusalReason.DUPLICATE_TENSOR)
    assert refused.value.message.isprintable()


def test_it_can_be_cut_anywhere(tmp_path: Path) -> None:
    content = whole([WEIGHT, NUMBER])
    for length in range(len(content)):
        with pytest.raises(ModelRefused):
            read(tmp_path / "model.bin", content[:length])
