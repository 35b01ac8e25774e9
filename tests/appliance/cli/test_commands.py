import inspect
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from appliance.cli.commands import Command, Session, build_callback, read_local_key, refusals_reported
from appliance.config import ClientEnvironment
from appliance.errors import Code, HearthError
from appliance.sdk.errors import NoAnswer, Unauthenticated


@pytest.fixture
def app() -> typer.Typer:
    def show(session: Session, word: str, times: int = 1) -> None:
        """Say what arrived."""
        typer.echo(f"{word} {times} {session.is_json} {session.client.account_id} {session.client.base_url}")

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
    words = ["--account-id", "first", "show", "hello", "--base-url", "http://10.0.0.1"]
    assert " first " in CliRunner().invoke(app, words).stdout
    assert " second " in CliRunner().invoke(app, [*words, "-a", "second"]).stdout


def test_the_commands_signature_is_its_own_without_the_session_and_with_the_shared_options() -> None:
    def run(session: Session, name: str) -> None: ...

    callback = build_callback(Command("run", None, run, ()))
    assert list(inspect.signature(callback).parameters) == [
        *("context", "name"),
        *("account_id", "api_key", "base_url", "output"),
    ]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NoAnswer("cannot reach it"), "Error: cannot reach it\n"),
        (HearthError(Code.INVALID, "bad setting: port"), "Error: bad setting: port\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x.json"),
            "Error: [Errno 2] No such file or directory: 'x.json'\n",
        ),
        (Unauthenticated("wrong key"), "Error: wrong key (give a key with --api-key or HEARTH_API_KEY, or be the user"),
    ],
)
def test_a_refusal_is_one_line_and_exit_status_1(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, refusals_reported():
        raise error
    assert ended.value.exit_code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


def test_a_fault_of_ours_is_not_dressed_up_as_a_refusal() -> None:
    with pytest.raises(ZeroDivisionError), refusals_reported():
        raise ZeroDivisionError


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "admin-api-key").write_text("fw_local\n")
    return tmp_path


def session_of(base_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Session:
    for name in ("HEARTH_API_KEY", "FIREWORKS_API_KEY", "HEARTH_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HEARTH_DATA_DIR": str(data_dir), **environment}.items():
        monkeypatch.setenv(name, value)
    return Session(base_url=base_url, api_key=None, account_id=None, output=None)


def test_the_local_daemons_key_is_found_for_this_machine_and_never_sent_to_an_other(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for base_url, sent in [
        ("http://127.0.0.1:8080", "fw_local"),
        ("http://localhost:8080", "fw_local"),
        ("http://192.168.1.5:8080", None),
        ("https://hearth.example.com", None),
    ]:
        assert session_of(base_url, data_dir, monkeypatch).api_key == sent


def test_a_key_from_the_environment_comes_before_the_local_one(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of("http://127.0.0.1", data_dir, monkeypatch, FIREWORKS_API_KEY="fw_environment")
    assert session.api_key == "fw_environment"


def test_a_key_file_that_is_missing_or_unreadable_is_no_key(tmp_path: Path) -> None:
    environment = ClientEnvironment(base_url="", api_key=None, data_dir=tmp_path)
    assert read_local_key(environment) is None
    (tmp_path / "admin-api-key").mkdir()
    assert read_local_key(environment) is None
