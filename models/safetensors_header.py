"""The header of a safetensors file, checked completely before anything maps the file.

Layout: 8 bytes little-endian header length N, N bytes of JSON, then the data. Every tensor's span must follow the one
before it without gap or overlap, agree with its shape and dtype, and the last must end where the file ends. All
arithmetic is in Python's unbounded ints: a shape whose product wraps around in 64 bits is refused, not believed.
"""

import math
import os
from typing import Any, BinaryIO, NamedTuple

import msgspec

from models.refusal import ModelRefused, RefusalReason
from models.strict_json import DuplicateKey, MalformedJson, parse_object

HEADER_BYTES_MAX = 100_000_000
_VALUES_MAX = 2_000_000
_RANK_MAX = 8  # without it, a product of ten thousand huge dimensions would keep a core busy for minutes
_LENGTH_BYTES = 8

DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


class TensorEntry(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Of the first byte, from the start of the file."""
    size_bytes: int


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_header(file: BinaryIO, name: str) -> dict[str, TensorEntry]:
    """Every tensor of an open safetensors file by its name; raises ModelRefused naming the file."""
    try:
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        prefix = file.read(_LENGTH_BYTES)
        length = int.from_bytes(prefix, "little")
        _check_length(name, size, len(prefix), length)
        header = file.read(length)
    except OSError as error:
        raise ModelRefused(RefusalReason.UNREADABLE, "cannot be read", name) from error
    raw = _parse(name, header)
    return _check_spans(name, raw, data_start=_LENGTH_BYTES + length, file_size=size)


def _check_length(name: str, size: int, prefix_size: int, length: int) -> None:
    if size == 0:
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, "is empty", name)
    if prefix_size < _LENGTH_BYTES:
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, f"ends after {size} bytes, inside the header's length", name)
    if length > HEADER_BYTES_MAX:
        message = f"announces a header of {length} bytes; at most {HEADER_BYTES_MAX} are read"
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, name)
    if _LENGTH_BYTES + length > size:
        message = f"ends after {size} bytes, inside its header of {length} bytes"
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, name)


def _parse(name: str, header: bytes) -> dict[str, _Entry]:
    try:
        raw: dict[str, Any] = parse_object(header, values_max=_VALUES_MAX)
        msgspec.convert(raw.pop("__metadata__", {}), dict[str, str])
        return msgspec.convert(raw, dict[str, _Entry])
    except DuplicateKey as error:
        raise ModelRefused(RefusalReason.DUPLICATE_TENSOR, f"its header {error}", name) from error
    except (MalformedJson, msgspec.ValidationError) as error:
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, f"its header is malformed: {error}", name) from error


def _check_spans(name: str, raw: dict[str, _Entry], *, data_start: int, file_size: int) -> dict[str, TensorEntry]:
    tensors = {}
    expected_begin = 0
    for tensor_name, entry in sorted(raw.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        shown = repr(tensor_name[:200])
        if begin != expected_begin or end < begin:
            message = f"tensor {shown} spans bytes {begin} to {end}, but the one before it ends at {expected_begin}"
            raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, name)
        itemsize = DTYPE_BYTES.get(entry.dtype)
        if itemsize is None:
            message = f"tensor {shown} has the unknown dtype {entry.dtype[:40]!r}"
            raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, name)
        is_plausible = len(entry.shape) <= _RANK_MAX and all(dimension >= 0 for dimension in entry.shape)
        if not is_plausible or math.prod(entry.shape) * itemsize != end - begin:
            shape = entry.shape[:_RANK_MAX]
            message = f"tensor {shown} of shape {shape} and dtype {entry.dtype} does not fill {end - begin} bytes"
            raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, name)
        tensors[tensor_name] = TensorEntry(entry.dtype, tuple(entry.shape), data_start + begin, end - begin)
        expected_begin = end
    if data_start + expected_begin != file_size:
        message = f"holds {file_size - data_start} bytes of data, but its tensors take {expected_begin}"
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, name)
    return tensors
