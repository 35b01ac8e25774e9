import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.refusal import ModelRefused, RefusalReason
from models.safetensors_header import HEADER_BYTES_MAX, TensorEntry, read_header
from tests.fakes.safetensors_file import entry, join, split

GOOD = {"a": entry("F32", [2, 3], 0, 24), "b": entry("BF16", [4], 24, 32)}


def read(path: Path) -> dict[str, TensorEntry]:
    with path.open("rb") as file:
        return read_header(file, path.name)


def refusal(path: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        read(path)
    assert refused.value.file == path.name
    return refused.value


def test_a_file_written_by_the_library_is_read(tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "x": np.arange(12, dtype=np.float32).reshape(3, 4),
        "y": np.ones(5, dtype=np.float16),
    }
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    content = path.read_bytes()
    entries = read(path)
    assert entries.keys() == tensors.keys()
    for name, found in entries.items():
        assert found.shape == tensors[name].shape
        assert content[found.offset : found.offset + found.size_bytes] == tensors[name].tobytes()


def test_tensors_without_elements_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    join(path, {"a": entry("F32", [0, 5], 0, 0), "b": entry("U8", [1], 0, 1), "c": entry("F16", [0], 1, 1)}, b"x")
    assert read(path)["a"].size_bytes == 0


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_file_is_refused(tmp_path: Path, tenth: int) -> None:
    path = tmp_path / "w.safetensors"
    join(path, GOOD, bytes(32))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenth // 10])
    assert refusal(path).reason == RefusalReason.CORRUPT_WEIGHTS


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1, HEADER_BYTES_MAX, HEADER_BYTES_MAX + 1])
def test_a_header_length_that_lies_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "w.safetensors"
    join(path, GOOD, bytes(32))
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    assert refusal(path).reason == RefusalReason.CORRUPT_WEIGHTS


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ({"a": entry("F32", [2, 3], 24, 0), "b": GOOD["b"]}, "spans bytes"),
        ({"a": entry("F32", [2, 3], 0, 24), "b": entry("BF16", [8], 16, 32)}, "spans bytes"),
        ({"a": entry("F32", [2, 3], -24, 0), "b": entry("BF16", [16], 0, 32)}, "spans bytes"),
        ({"a": entry("F32", [2], 0, 8), "b": GOOD["b"]}, "spans bytes"),
        ({"b": GOOD["b"]}, "spans bytes"),
        ({"a": GOOD["a"]}, "bytes of data"),
        ({}, "bytes of data"),
        ({"a": GOOD["a"], "b": entry("BF16", [2**40], 24, 24 + 2**41)}, "bytes of data"),
        ({"a": entry("F32", [2, 4], 0, 24), "b": GOOD["b"]}, "does not fill"),
        ({"a": entry("F32", [-2, -3], 0, 24), "b": GOOD["b"]}, "does not fill"),
        # In 64 bits this product wraps around to a small number.
        ({"a": entry("F32", [4194305, 4194305, 211106198978564], 0, 24), "b": GOOD["b"]}, "does not fill"),
        ({"a": entry("F32", [10**90] * 2000, 0, 24), "b": GOOD["b"]}, "does not fill"),
        ({"a": entry("F99", [2, 3], 0, 24), "b": GOOD["b"]}, "unknown dtype"),
        ({"a": entry("F64", [2, 3], 0, 24), "b": GOOD["b"]}, "does not fill"),
        ({"a": {**GOOD["a"], "extra": 1}, "b": GOOD["b"]}, "malformed"),
        ({"a": {"dtype": "F32", "shape": [2, 3]}, "b": GOOD["b"]}, "malformed"),
        ({"a": {**GOOD["a"], "shape": [2, "3"]}, "b": GOOD["b"]}, "malformed"),
        ({"a": {**GOOD["a"], "shape": [2, True]}, "b": GOOD["b"]}, "malformed"),
        ({"a": {**GOOD["a"], "data_offsets": [0, 24, 25]}, "b": GOOD["b"]}, "malformed"),
        ({"a": {**GOOD["a"], "data_offsets": [0, 24.5]}, "b": GOOD["b"]}, "malformed"),
        ({"a": [1], "b": GOOD["b"]}, "malformed"),
        ({"__metadata__": {"format": 1}, **GOOD}, "malformed"),
        ("[]", "malformed"),
        ('{"a": NaN}', "malformed"),
        (json.dumps(GOOD)[:-1], "malformed"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, header: dict[str, object], complaint: str) -> None:
    path = tmp_path / "w.safetensors"
    join(path, header, bytes(32))
    refused = refusal(path)
    assert refused.reason == RefusalReason.CORRUPT_WEIGHTS
    assert complaint in refused.message


def test_a_tensor_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    one = json.dumps(entry("U8", [4], 0, 4))
    join(path, f'{{"a": {one}, "a": {one}}}', bytes(4))
    assert refusal(path).reason == RefusalReason.DUPLICATE_TENSOR


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    join(path, GOOD, bytes(33))
    assert refusal(path).reason == RefusalReason.CORRUPT_WEIGHTS


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.touch()
    assert "is empty" in refusal(path).message


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(position=st.integers(0, 200), replacement=st.binary(min_size=1, max_size=4))
def test_any_corruption_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, replacement: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    join(path, GOOD, bytes(32))
    content = bytearray(path.read_bytes())
    content[position : position + len(replacement)] = replacement
    path.write_bytes(content)
    try:
        entries = read(path)
    except ModelRefused:
        return
    _, data = split(path)
    assert sum(found.size_bytes for found in entries.values()) == len(data)
