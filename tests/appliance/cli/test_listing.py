import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.cli.grammar import paths
from appliance.cli.main import COMMANDS
from tests.appliance.cli.conftest import Hearth
from tests.fakes.terminal import terminal

NOUNS = ("models", "deployments", "deployed-models", "api-keys")
LISTS = [" ".join(next(paths(command))[0]) for command in COMMANDS if command.verb == "list" and command.noun]
WIDE = "日本語の名前 🔥 " * 4
LONG = "an-id-of-63-characters-which-is-the-longest-one-that-there-may-be"[:63].rstrip("-")


@pytest.mark.parametrize("noun", NOUNS)
def test_every_list_is_filtered_and_refuses_a_field_that_there_is_not(hearth: Hearth, noun: str) -> None:
    nothing = hearth("list", noun, "--filter", "displayName=nobody-has-this-name", "--order-by", "displayName desc")
    assert nothing.exit_code == 0, nothing.err
    assert len(nothing.out.splitlines()) == 1, "the headings"
    for option, parameter in (("--filter", "filter"), ("--order-by", "orderBy")):
        refused = hearth("list", noun, option, "sails=1" if option == "--filter" else "sails")
        assert (refused.exit_code, f"{parameter}: 'sails' is none of" in refused.err) == (1, True), refused.err


def test_a_list_stands_in_the_order_that_was_asked_for(hearth: Hearth, model_id: str) -> None:
    for deployment_id in ("order-a", "order-b"):
        created = hearth(
            *("create", "deployment", model_id, "--deployment-id", deployment_id, "--max-replica-count", "0")
        )
        assert created.exit_code == 0, created.err
    listed = hearth("list", "deployments", "--filter", "name:order-", "--order-by", "name desc")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == ["order-b", "order-a"]
    for deployment_id in ("order-a", "order-b"):
        assert hearth("delete", "deployment", deployment_id, "--hard", "--ignore-checks").exit_code == 0


def test_a_page_is_shown_alone_and_says_where_the_next_begins(hearth: Hearth) -> None:
    whole: Any = hearth("list", "deployment-shapes", "-a", "fireworks", "-o", "json").json
    assert len(whole) > 2
    words = ("list", "deployment-shapes", "-a", "fireworks", "-o", "json", "--page-size", "2")
    first = hearth(*words)
    assert first.json == whole[:2]
    token = first.err.rpartition("--page-token ")[2].strip()
    for page in (token, "2"):
        assert hearth(*words, "--page-token", page).json == whole[2:4]
    everything = hearth(*words, "--no-paginate")
    assert (everything.json, everything.err) == (whole, "")


ALL_LISTS = """
import sys
from appliance.cli.main import build_app
for line in sys.argv[1].split(","):
    print("$", line)
    build_app()(line.split(), prog_name="hearth", standalone_mode=False)
"""


@pytest.fixture(scope="module")
def long_names(hearth: Hearth, model_id: str) -> Iterator[None]:
    words = ("create", "deployment", model_id, "--deployment-id", LONG, "--max-replica-count", "0")
    assert hearth(*words, "--display-name", WIDE[:40]).exit_code == 0
    assert hearth("create", "api-key", "--display-name", WIDE[:40]).exit_code == 0
    yield
    assert hearth("delete", "deployment", LONG, "--hard", "--ignore-checks").exit_code == 0


@pytest.mark.usefixtures("long_names")
@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_every_list_is_as_wide_as_the_terminal_and_no_wider(hearth: Hearth, columns: int) -> None:
    program = [sys.executable, "-c", ALL_LISTS, ",".join(LISTS)]
    nobody = {"HEARTH_API_KEY": "", "FIREWORKS_API_KEY": ""}
    with terminal(program, {**nobody, **hearth.environment}, columns) as screen:
        assert screen.wait() == 0, screen.text
    lines = screen.text.splitlines()
    assert [line for line in lines if line.startswith("$ ")] == [f"$ {line}" for line in LISTS]
    too_wide = [line for line in lines if cells(line) > columns and line != LONG and not line.startswith("$ ")]
    assert not too_wide
    assert any(line.split()[:1] == [LONG] for line in lines), "no id is cut"


def cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def test_a_pipe_gets_whole_lines_without_colours_and_a_terminal_colours_unless_it_is_asked_not_to(
    hearth: Hearth,
) -> None:
    assert "\x1b" not in hearth("list", "models").out
    with hearth.in_terminal("list", "models", "--api-key", "fw_wrong") as screen:
        screen.wait()
    assert "\x1b[31m" in screen.raw
    with hearth.in_terminal("list", "models", "--api-key", "fw_wrong", NO_COLOR="1") as screen:
        screen.wait()
    assert "\x1b[3" not in screen.raw
