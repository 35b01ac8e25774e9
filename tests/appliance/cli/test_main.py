import os
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from appliance.cli import serve
from appliance.cli.commands import Command
from appliance.cli.main import COMMANDS, NOUNS, VERBS, build_app, plural
from tests.appliance.cli.conftest import Hearth

OF_NOUNS = [command for command in COMMANDS if command.noun is not None]
EXAMPLES = [example for command in COMMANDS for example in command.examples] + list(serve.EXAMPLES)


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


def test_every_verb_and_noun_is_explained() -> None:
    assert {command.verb for command in OF_NOUNS} == set(VERBS)
    assert {command.noun for command in OF_NOUNS} == set(NOUNS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.verb}-{command.noun}")
def test_help_teaches_with_examples_and_fits_80_columns(command: Command) -> None:
    assert command.examples
    text = help_of(*(word for word in (command.verb, command.noun) if word))
    for example in command.examples:
        assert f"    {example}\n" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_line_that_parses(
    example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "checkpoint").mkdir()
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(example)
    assert program == "hearth"
    # With --help at the end, or before another program's words, typer checks what is before it, and runs nothing.
    end = words.index("--") if "--" in words else len(words)
    result = CliRunner().invoke(build_app(), [*words[:end], "--help", *words[end:]], prog_name="hearth")
    assert result.exit_code == 0, result.output


def test_whoami_says_whose_key_it_is_and_where(hearth: Hearth) -> None:
    outcome = hearth("whoami")
    assert outcome.out.splitlines() == ["Account:   accounts/hearth", f"Base URL:  {hearth.daemon.base_url}"]
    assert hearth("whoami", "-o", "json").json == {"account": "accounts/hearth", "baseUrl": hearth.daemon.base_url}


def test_version_needs_no_daemon(hearth: Hearth) -> None:
    outcome = hearth("version", HEARTH_BASE_URL="http://127.0.0.1:1")
    assert re.fullmatch(r"hearth \d+\.\d+\.\d+\n", outcome.out)
    assert set(hearth("version", "-o", "json").json) == {"version"}  # type: ignore[call-overload]


def test_no_daemon_is_said_in_one_line(hearth: Hearth) -> None:
    outcome = hearth("list", "models", HEARTH_BASE_URL="http://127.0.0.1:1")
    assert (outcome.exit_code, outcome.out) == (1, "")
    assert outcome.err.startswith("Error: cannot reach http://127.0.0.1:1: is the daemon running?")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [("frobnicate",), ("create",), ("create", "dataset"), ("list", "models", "--frob"), ()]
)
def test_words_that_are_no_command_are_a_usage_error(hearth: Hearth, words: tuple[str, ...]) -> None:
    assert hearth(*words).exit_code == 2


def test_help_loads_no_part_of_the_daemon() -> None:
    program = (
        "import sys; from appliance.cli.main import build_app\n"
        "build_app()(['--help'], standalone_mode=False)\n"
        "heavy = {'aiohttp', 'aiosqlite', 'httpx', 'appliance.domain', 'models', 'torch', 'runtime'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_help_takes_less_than_half_a_second() -> None:
    # Of processor time, which a busy machine does not lengthen.
    before = os.times()
    subprocess.run([sys.executable, "-m", "appliance", "--help"], check=True, capture_output=True)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5
