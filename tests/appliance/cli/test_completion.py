import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.appliance.cli.conftest import Hearth
from tests.end_to_end.daemon_process import wait_until


class Shell:
    """bash with our completion in it, and a `hearth` to call."""

    def __init__(self, hearth: Hearth, directory: Path) -> None:
        program = directory / "hearth"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m appliance "$@"\n')
        program.chmod(0o755)
        self._script = hearth("completion", "bash").out
        self._environment = {
            **os.environ,
            **hearth.environment,
            "PATH": f"{directory}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path.cwd()),
        }

    def complete(self, line: str) -> list[str]:
        """What a person is offered who has typed `line` and presses Tab."""
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        program = (
            f"{self._script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
            '_hearth_completion hearth; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", program], env=self._environment, capture_output=True, text=True, check=True
        )
        return [word for word in done.stdout.splitlines() if word]


@pytest.fixture(scope="module")
def shell(hearth: Hearth, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    return Shell(hearth, tmp_path_factory.mktemp("bin"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hearth unde", {"undeploy", "undelete"}),
        ("hearth create deployment", {"deployment", "deployment-shape"}),
        ("hearth deployment un", {"undelete"}),
        ("hearth scale deployment x --rep", {"--replica-count"}),
        ("hearth list models -o ", {"text", "json"}),
    ],
)
def test_verbs_nouns_options_and_choices_are_completed(shell: Shell, line: str, expected: set[str]) -> None:
    assert set(shell.complete(line)) == expected


def test_ids_are_completed_as_the_daemon_has_them(shell: Shell, model_id: str) -> None:
    # A daemon that does not answer in a moment is not waited for, and one presses Tab again.
    wait_until(lambda: shell.complete(f"hearth get model {model_id[:4]}") == [model_id], 20, "the model's id")
    wait_until(lambda: shell.complete("hearth create deployment ember-c") == ["ember-chat"], 20, "the built-in's id")
    assert shell.complete(f"hearth get model --base-url http://127.0.0.1:1 {model_id[:4]}") == []


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_own_words(hearth: Hearth, shell_name: str) -> None:
    script = hearth("completion", shell_name).out
    assert f"complete_{shell_name}" in script
    program = shutil.which(shell_name)
    if program is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True)


def test_a_shell_that_there_is_not_is_a_usage_error(hearth: Hearth) -> None:
    assert hearth("completion", "tcsh").exit_code == 2
