"""A CTranslate2 model.bin, checked from its first byte to its last before the library that reads it is given it.

Layout, little-endian: version, name of the specification, its revision, then each variable as name, shape, dtype, size
and data, then aliases. Tensor data is skipped here; a name is a 16-bit length, text and a zero byte.
"""

import math
import os
import struct
from typing import BinaryIO, NamedTuple

from models.refusal import ModelRefused, RefusalReason

MODEL_BIN = "model.bin"
VERSIONS = (5, 6)
_VARIABLES_MAX = 20_000
_NAME_BYTES_MAX = 512
_RANK_MAX = 4
_DTYPES = (("float32", 4), ("int8", 1), ("int16", 2), ("int32", 4), ("float16", 2), ("bfloat16", 2))
"""By their number in the file: name and bytes of an element."""


class Variable(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


class CTranslate2File(NamedTuple):
    specification: str
    variables: dict[str, Variable]
    """Aliases left out."""


def read_model_bin(file: BinaryIO) -> CTranslate2File:
    """Raises ModelRefused unless every part lies inside the file and the last one ends it."""
    reader = _Reader(file)
    version = reader.number("I")
    if version not in VERSIONS:
        raise _corrupt(f"has the format version {version}; supported are {', '.join(map(str, VERSIONS))}")
    specification = reader.text()
    reader.number("I")
    variables: dict[str, Variable] = {}
    for _ in range(reader.count()):
        name = reader.text()
        if name in variables:
            raise ModelRefused(RefusalReason.DUPLICATE_TENSOR, f"holds {name!r} twice", MODEL_BIN)
        variables[name] = reader.variable(name)
    for _ in range(reader.count()):
        alias, name = reader.text(), reader.text()
        if name not in variables or alias in variables:
            raise _corrupt(f"calls {name!r} also {alias!r}, which cannot be")
    reader.require_end()
    return CTranslate2File(specification, variables)


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._file.seek(0)
        self._size = os.fstat(file.fileno()).st_size

    def number(self, kind: str) -> int:
        data = self._read(struct.calcsize(kind))
        (value,) = struct.unpack(f"<{kind}", data)
        return int(value)

    def count(self) -> int:
        number = self.number("I")
        if number > _VARIABLES_MAX:
            raise _corrupt(f"announces {number} variables; at most {_VARIABLES_MAX} are read")
        return number

    def text(self) -> str:
        length = self.number("H")
        if not 1 < length <= _NAME_BYTES_MAX:
            raise _corrupt(f"holds a name of {length} bytes")
        data = self._read(length)
        try:
            name = data[:-1].decode("ascii")
        except UnicodeDecodeError:
            name = ""
        if data[-1] or not name.isprintable() or not name:
            raise _corrupt("holds a name that is no text")
        return name

    def variable(self, name: str) -> Variable:
        rank = self.number("B")
        if rank > _RANK_MAX:
            raise _corrupt(f"{name!r} has {rank} dimensions")
        shape = tuple(self.number("I") for _ in range(rank))
        dtype_id, size_bytes = self.number("B"), self.number("I")
        if dtype_id >= len(_DTYPES):
            raise _corrupt(f"{name!r} has the unknown dtype {dtype_id}")
        dtype, itemsize = _DTYPES[dtype_id]
        if math.prod(shape) * itemsize != size_bytes:
            raise _corrupt(f"{name!r} of shape {shape} and dtype {dtype} does not fill {size_bytes} bytes")
        if self._file.tell() + size_bytes > self._size:
            raise _corrupt(f"ends after {self._size} bytes, inside {name!r}")
        self._file.seek(size_bytes, os.SEEK_CUR)
        return Variable(dtype, shape, size_bytes)

    def require_end(self) -> None:
        if self._file.tell() != self._size:
            raise _corrupt(f"holds {self._size - self._file.tell()} bytes behind its last part")

    def _read(self, num_bytes: int) -> bytes:
        try:
            data = self._file.read(num_bytes)
        except OSError as error:
            raise ModelRefused(RefusalReason.UNREADABLE, "cannot be read", MODEL_BIN) from error
        if len(data) < num_bytes:
            raise _corrupt(f"ends after {self._size} bytes, inside one of its parts")
        return data


def _corrupt(message: str) -> ModelRefused:
    return ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, MODEL_BIN)
