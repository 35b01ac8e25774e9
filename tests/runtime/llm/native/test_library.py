import logging
import re
from pathlib import Path

import pytest
import torch

from runtime.llm.native import library
from runtime.llm.native.build import SOURCES

CONSTANTS = {
    "HEAD_SIZE_MAX": library.HEAD_SIZE_MAX,
    "TILE_ROWS": library.HEADS_PER_KV_HEAD_MAX,
    "AMX_INPUTS": library.AMX_INPUTS,
}


def test_without_the_library_there_is_none_and_a_broken_one_is_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert library.load(tmp_path / "missing.so") is None
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    with caplog.at_level(logging.WARNING):
        assert library.load(broken) is None
    assert len(caplog.records) == torch.cpu._is_avx512_bf16_supported()


def test_limits_are_those_of_the_sources() -> None:
    text = "\n".join(source.read_text() for source in SOURCES)
    found = {name: int(value) for name, value in re.findall(r"^#define (\w+) (\d+)", text, re.M)}
    assert {name: found[name] for name in CONSTANTS} == CONSTANTS


def test_structures_have_the_members_of_the_sources_in_their_order() -> None:
    text = "\n".join(source.read_text() for source in SOURCES)
    declared = dict(re.findall(r"typedef struct \{\n((?:(?!typedef).)*?)\} (\w+);", text, re.S)[::-1])
    by_name = {name: members for members, name in declared.items()}
    for structure in (library.Scale, library.Rotation, library.Linear, library.Batch, library.Heads, library.Layer):
        members = re.sub(r"/\*.*?\*/", "", by_name[structure.__name__], flags=re.S)
        names = [name for line in members.split(";") for name in re.findall(r"(\w+)(?=\s*(?:,|$))", line.strip())]
        assert names == [field[0] for field in structure._fields_]
