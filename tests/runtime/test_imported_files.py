from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from models.refusal import ModelRefused, RefusalReason
from runtime.engine import LoadRefused
from runtime.imported_files import inspect_imported

IMPORTED = MappingProxyType({"config.json": "1", "model.safetensors": "2"})


class Found(NamedTuple):
    file_sha256: Mapping[str, str]


def inspect(found: Mapping[str, str], imported: Mapping[str, str], *, may_list_more: bool = False) -> Found:
    return inspect_imported(
        lambda directory, known_sha256: Found(found), Path("a-model"), imported, may_list_more=may_list_more
    )


def test_what_was_imported_is_taken() -> None:
    assert inspect(IMPORTED, IMPORTED).file_sha256 == IMPORTED


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({**IMPORTED, "config.json": "3"}, "config.json"),
        ({**IMPORTED, "tokenizer.json": "4"}, "tokenizer.json"),
        ({"config.json": "1"}, "model.safetensors"),
        ({}, "config.json, model.safetensors"),
    ],
)
def test_whatever_differs_is_named_once(found: Mapping[str, str], named: str) -> None:
    with pytest.raises(LoadRefused, match=f"not what was imported: {named}$"):
        inspect(found, IMPORTED)


def test_files_of_no_use_to_the_engine_may_be_missing_but_not_changed() -> None:
    assert inspect({"config.json": "1"}, IMPORTED, may_list_more=True)
    with pytest.raises(LoadRefused, match=r"config\.json$"):
        inspect({"config.json": "3"}, IMPORTED, may_list_more=True)


def test_a_folder_that_is_refused_is_refused_for_the_same_reason() -> None:
    def refuse(directory: Path, known_sha256: Mapping[str, str]) -> Found:
        raise ModelRefused(RefusalReason.UNSAFE_FILE, "custom code")

    with pytest.raises(LoadRefused, match="custom code"):
        inspect_imported(refuse, Path("a-model"), IMPORTED)
