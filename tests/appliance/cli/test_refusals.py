import pytest
import typer

from appliance.cli.credentials import Credentials
from appliance.cli.refusals import Surroundings, explained, refusals_reported
from appliance.errors import Code, HearthError
from appliance.sdk.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NoAnswer,
    NotFound,
    RateLimited,
    SdkError,
    Unauthenticated,
    Unavailable,
)


def surroundings(base_url: str = "http://127.0.0.1:8080", source: str = "") -> Surroundings:
    credentials = Credentials(base_url, "fw_x" if source else None, source, None, "default", is_signed_in=False)
    return Surroundings(lambda: credentials, frozenset({"models", "deployed-models"}))


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (Unauthenticated("no key"), "There is no key: hearth signin"),
        (Forbidden("the role user may not do this"), "hearth whoami shows your role"),
        (NotFound("accounts/a/deployedModels/x is not there"), "hearth list deployed-models shows what there is"),
        (RateLimited("too many", retry_after_s=11.2), "Try again in 12 s"),
        (Unavailable("loading", retry_after_s=3), "Try again in 3 s"),
        (NoAnswer("cannot reach it"), "hearth serve starts it, hearth doctor"),
    ],
)
def test_a_refusal_says_what_to_do_next(error: SdkError, advice: str) -> None:
    assert explained(error, surroundings()).startswith(f"{error.message}. {advice}")


@pytest.mark.parametrize(
    "error", [Conflict("it exists"), RateLimited("too many"), NotFound("accounts/a/boats/x"), SdkError("no")]
)
def test_there_is_no_advice_where_there_is_none_to_give(error: SdkError) -> None:
    assert explained(error, surroundings()) == error.message


def test_a_refused_key_is_traced_to_where_it_came_from() -> None:
    shown = explained(Unauthenticated("wrong key"), surroundings(source="HEARTH_API_KEY"))
    assert shown == "wrong key. The key came from: HEARTH_API_KEY. hearth signin takes another one"


def test_another_machine_is_not_to_be_started_here() -> None:
    assert "hearth serve" not in explained(NoAnswer("cannot reach it"), surroundings("http://gpu-box:8080"))


def test_the_field_is_named_once() -> None:
    assert explained(Invalid("must be positive", param="maxTokens"), surroundings()) == "maxTokens: must be positive"
    assert explained(Invalid("maxTokens is too large", param="maxTokens"), surroundings()) == "maxTokens is too large"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NoAnswer("cannot\nreach it"), "Error: cannot reach it\n"),
        (HearthError(Code.INVALID, "bad setting", "port"), "Error: port: bad setting\n"),
        (FileNotFoundError(2, "No such file", "x.json"), "Error: [Errno 2] No such file: 'x.json'\n"),
    ],
)
def test_a_refusal_is_one_line_and_exit_status_1(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, refusals_reported():
        raise error
    assert ended.value.exit_code == 1
    assert capsys.readouterr() == ("", line)


def test_a_fault_of_ours_is_not_dressed_up_as_a_refusal() -> None:
    with pytest.raises(ZeroDivisionError), refusals_reported():
        raise ZeroDivisionError
