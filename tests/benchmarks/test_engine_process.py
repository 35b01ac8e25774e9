"""The processes of the engine benchmark."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.engine_process import VLLM, Command, Process, SideEnded

ECHO = """
import json, sys
print(json.dumps("begun"), flush=True)
for line in sys.stdin:
    question = json.loads(line)
    if question == "end":
        sys.exit("last words")
    print(json.dumps(question), flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    """As `Process` takes it: an absolute path stands for itself."""
    path = tmp_path / "echo.py"
    path.write_text(ECHO)
    return str(path)


def test_a_process_runs_only_while_it_is_asked(script: str, tmp_path: Path) -> None:
    with Process(Command("echo", ""), script, [], tmp_path / "log") as process:
        assert process.first == "begun"
        assert process.ask([1, 2]) == [1, 2]
        (child,) = (each for each in psutil.Process(os.getpid()).children() if script in each.cmdline())
        assert child.status() == psutil.STATUS_STOPPED
        assert process.ask("again") == "again"
    assert not child.is_running()


def test_the_last_words_of_a_process_are_in_the_error(script: str, tmp_path: Path) -> None:
    with (
        Process(Command("echo", ""), script, [], tmp_path / "log") as process,
        pytest.raises(SideEnded, match="echo: last words"),
    ):
        process.ask("end")


def test_a_process_imports_from_its_checkout(tmp_path: Path) -> None:
    (tmp_path / "odd_module.py").write_text("VALUE = 7")
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text("import odd_module; print(odd_module.VALUE)")

    assert Command("odd", "", checkout=tmp_path).run_script(str(script)) == 7


def test_openmp_of_vllm_s_environment_is_loaded_first(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").mkdir()
    library = tmp_path / "lib" / "libiomp5.so"
    library.touch()
    python = str(tmp_path / "bin" / "python")

    assert Command(VLLM, VLLM, python).environment()["LD_PRELOAD"] == str(library)
    assert Command(VLLM, VLLM, sys.executable).environment().get("LD_PRELOAD") == os.environ.get("LD_PRELOAD")
