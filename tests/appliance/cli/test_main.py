import os
import shlex
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from typer.testing import CliRunner

from appliance.cli.commands import Command
from appliance.cli.grammar import paths
from appliance.cli.main import COMMANDS, NOUNS, VERBS, build_app
from appliance.cli.words import plural
from tests.appliance.cli.conftest import Hearth

OF_NOUNS = [command for command in COMMANDS if command.noun is not None]
EXAMPLES = [example for command in COMMANDS for example in command.examples]


def help_of(*words: str) -> str:
    result = CliRunner().invoke(build_app(), [*words, "--help"], prog_name="hearth", terminal_width=80)
    assert result.exit_code == 0, result.output
    return result.stdout


def without_usage(text: str) -> str:
    return text.partition("\n")[2]


@pytest.mark.parametrize("command", OF_NOUNS, ids=lambda command: f"{command.verb}-{command.noun}")
def test_both_word_orders_are_the_same_command_in_singular_and_plural(command: Command) -> None:
    assert command.noun is not None
    shown = without_usage(help_of(command.verb, command.noun))
    for noun in (command.noun, plural(command.noun)):
        assert without_usage(help_of(command.verb, noun)) == shown
        assert without_usage(help_of(noun, command.verb)) == shown


def test_every_noun_is_explained_and_every_verb_that_several_have() -> None:
    assert {command.noun for command in OF_NOUNS} == set(NOUNS)
    verbs = Counter(command.verb for command in OF_NOUNS)
    assert set(VERBS) <= set(verbs)
    assert {verb for verb, number in verbs.items() if number > 2} <= set(VERBS)


def test_no_two_commands_have_the_same_words() -> None:
    said = Counter(words for command in COMMANDS for words, _ in paths(command))
    said.update((command.verb,) for command in COMMANDS if command.noun is None)
    assert not [words for words, number in said.items() if number > 1]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.verb}-{command.noun}")
def test_help_teaches_with_examples_and_fits_80_columns(command: Command) -> None:
    assert command.examples
    text = help_of(*(word for word in (command.verb, command.noun) if word))
    as_one_line = " ".join(text.replace("\\\n", " ").split())
    for example in command.examples:
        assert " ".join(example.replace("\\\n", " ").split()) in as_one_line
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_line_that_parses(
    example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "checkpoint").mkdir()
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(example.replace("\\\n", " ").rpartition(" | ")[2])
    assert program == "hearth"
    # With --help at the end, or before another program's words, typer checks what is before it, and runs nothing.
    end = words.index("--") if "--" in words else len(words)
    result = CliRunner().invoke(build_app(), [*words[:end], "--help", *words[end:]], prog_name="hearth")
    assert result.exit_code == 0, result.output


def test_no_daemon_is_said_in_one_line_with_what_to_do(hearth: Hearth) -> None:
    outcome = hearth("list", "models", HEARTH_BASE_URL="http://127.0.0.1:1")
    assert (outcome.exit_code, outcome.out) == (1, "")
    assert outcome.err.startswith("Error: cannot reach http://127.0.0.1:1: is the daemon running?")
    assert "hearth serve" in outcome.err
    assert outcome.err.count("\n") == 1


def test_hearth_alone_says_how_to_begin(hearth: Hearth) -> None:
    outcome = hearth()
    assert outcome.exit_code == 0
    assert "First steps:\n  hearth serve " in outcome.out
    assert max(len(line) for line in outcome.out.splitlines()) <= 80


def test_the_help_names_every_command_once_and_leaves_none_without_a_section() -> None:
    lines = help_of().splitlines()
    words = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith(("   ", "  -"))]
    assert "More:" not in lines
    for name in [*VERBS, *NOUNS, "serve", "chat", "whoami"]:
        assert words.count(name) == 1, name


@pytest.mark.parametrize("words", [("frobnicate",), ("create",), ("create", "dataset"), ("list", "models", "--frob")])
def test_words_that_are_no_command_are_a_usage_error(hearth: Hearth, words: tuple[str, ...]) -> None:
    assert hearth(*words).exit_code == 2


def test_help_loads_no_part_of_the_daemon() -> None:
    program = (
        "import sys; from appliance.cli.main import build_app\n"
        "build_app()(['--help'], standalone_mode=False)\n"
        "heavy = {'aiohttp', 'aiosqlite', 'httpx', 'rich', 'appliance.domain', 'models', 'torch', 'runtime'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_help_takes_less_than_half_a_second() -> None:
    # Of processor time, which a busy machine does not lengthen.
    before = os.times()
    subprocess.run([sys.executable, "-m", "appliance", "--help"], check=True, capture_output=True)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5
