import ctypes
import shutil
from pathlib import Path

import pytest

from runtime.llm.native.build import compile_library, library_path


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_sources_compile_whatever_processor_is_here_and_older_ones_go(tmp_path: Path) -> None:
    library = library_path(tmp_path)
    library.parent.mkdir(parents=True)
    (library.parent / "native-0123456789abcdef.so").write_bytes(b"of earlier sources")
    assert compile_library(library) is None
    assert ctypes.CDLL(str(library)).compute_layers
    assert [path.name for path in library.parent.iterdir()] == [library.name]


def test_without_a_compiler_there_is_a_reason_and_no_library(tmp_path: Path) -> None:
    reason = compile_library(library_path(tmp_path), compiler="/nowhere/cc")
    assert reason is not None
    assert "there is no C compiler" in reason
    assert not list(library_path(tmp_path).parent.iterdir())


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_what_the_compiler_says_is_the_reason(tmp_path: Path) -> None:
    (tmp_path / "cc").write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    reason = compile_library(library_path(tmp_path), compiler=str(tmp_path / "cc"))
    assert reason == "the C compiler says: no room"
