import inspect
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from appliance.cli.commands import Command, Session, build_callback, help_text
from appliance.cli.groups import build_leaf


def show(session: Session, word: str, times: int = 1) -> None:
    """Say what arrived."""
    typer.echo(f"{word} {times} {session.is_json} {session.client.account_id} {session.client.base_url}")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root(account_id: str | None = None, output: str | None = None) -> None: ...

    app.command("show")(build_callback(Command("show", None, show, ())))
    return app


def test_shared_options_come_after_the_commands_own(app: typer.Typer) -> None:
    words = ["show", "hello", "--times", "2", "-a", "acme", "-o", "json", "--base-url", "http://10.0.0.1/"]
    result = CliRunner().invoke(app, words)
    assert result.stdout == "hello 2 True acme http://10.0.0.1\n"


def test_shared_options_may_also_come_first_and_the_later_wins(app: typer.Typer) -> None:
    words = ["--account-id", "first", "--output", "json", "show", "hello", "--base-url", "http://10.0.0.1"]
    assert "True first " in CliRunner().invoke(app, words).stdout
    assert " second " in CliRunner().invoke(app, [*words, "-a", "second"]).stdout


def parameters(command: Command) -> list[str]:
    return list(inspect.signature(build_callback(command)).parameters)


def test_the_commands_signature_is_its_own_without_the_session_and_with_the_shared_options() -> None:
    assert parameters(Command("show", None, show, ())) == [
        *("context", "word", "times"),
        *("account_id", "api_key", "base_url", "profile", "output", "dry_run"),
    ]


def test_lists_take_what_all_lists_take_once() -> None:
    def list_all(session: Session, only: Annotated[str, typer.Option("--filter")] = "") -> None: ...

    names = parameters(Command("list", "thing", list_all, ()))
    assert names[:6] == ["context", "only", "order_by", "page_size", "page_token", "no_paginate"]


def test_what_asks_no_daemon_has_no_dry_run_even_before_its_verb() -> None:
    command = Command("here", None, lambda session: None, (), is_local=True)
    assert "dry_run" not in parameters(command)
    app = typer.Typer()

    @app.callback()
    def root(dry_run: Annotated[bool, typer.Option("--dry-run")] = False) -> None: ...

    app.command("here")(build_callback(command))
    refused = CliRunner().invoke(app, ["--dry-run", "here"])
    assert (refused.exit_code, "sends nothing" in refused.stderr) == (2, True)


def test_what_takes_no_session_is_run_as_it_is() -> None:
    def run(word: str) -> None:
        typer.echo(word)

    result = CliRunner().invoke(_as_app(Command("run", None, run, (), takes_session=False)), ["hello"])
    assert result.stdout == "hello\n"


def _as_app(command: Command) -> typer.Typer:
    app = typer.Typer()
    app.command(command.verb)(build_callback(command))
    return app


def test_a_parameter_that_names_what_is_listed_is_completed_and_no_other() -> None:
    def update(
        session: Session,
        deployment: Annotated[str, typer.Argument()],
        draft_model: Annotated[str, typer.Option()] = "",
        display_name: Annotated[str, typer.Option()] = "",
    ) -> None: ...

    leaf: Any = build_leaf("update", Command("update", "deployment", update, ()), {"deployments", "models"})
    marks = {
        name: next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
        for name, parameter in inspect.signature(
            build_callback(Command("update", "deployment", update, ()), {"deployments", "models"})
        ).parameters.items()
    }
    completed = {name for name, mark in marks.items() if getattr(mark, "autocompletion", None) is not None}
    assert completed == {"deployment", "draft_model"}
    assert {parameter.name for parameter in leaf.params} >= {"deployment", "draft_model", "display_name"}


def test_help_is_the_docstring_and_the_examples_line_by_line() -> None:
    assert help_text(show, ("hearth show x", "hearth show y")) == (
        "Say what arrived.\n\n\b\nExamples:\n  hearth show x\n  hearth show y"
    )


def test_a_long_example_is_continued_before_an_option_as_a_shell_reads_it() -> None:
    example = f"hearth show --first {'a' * 30} --second {'b' * 30} --third"
    assert help_text(show, (example,)).splitlines()[-2:] == [
        f"  hearth show --first {'a' * 30} \\",
        f"    --second {'b' * 30} --third",
    ]
