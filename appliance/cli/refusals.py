"""What is printed when the daemon, or the machine, says no: what is wrong, in which field, and what to do next."""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from math import ceil
from typing import NamedTuple

import typer

from appliance.cli.credentials import Credentials
from appliance.cli.output import print_error
from appliance.cli.words import noun_of
from appliance.errors import HearthError
from appliance.sdk.addresses import is_loopback
from appliance.sdk.errors import (
    Forbidden,
    Invalid,
    NoAnswer,
    NotFound,
    RateLimited,
    SdkError,
    Unauthenticated,
    Unavailable,
)

REFUSED = 1
"""Exit status when something says no; 2 is for a command line that makes no sense."""

COLLECTION = re.compile(r"accounts/[^/\s]+/([a-zA-Z]+)/")


class Surroundings(NamedTuple):
    """What a refusal is explained with."""

    credentials: Callable[[], Credentials]
    """Whom the command asked, and as whom."""
    listed: Collection[str] = ()
    """Nouns, in plural, that can be listed."""


@contextmanager
def refusals_reported(surroundings: Surroundings | None = None) -> Iterator[None]:
    """Every refusal ends as one line on stderr and exit status 1."""
    try:
        yield
    except SdkError as error:
        raise _refused(explained(error, surroundings) if surroundings else error.message) from error
    except HearthError as error:
        raise _refused(_with_field(error.message, error.param)) from error
    except BrokenPipeError:
        raise  # `hearth list models | head`: typer ends quietly
    except OSError as error:
        raise _refused(str(error)) from error


def explained(error: SdkError, surroundings: Surroundings) -> str:
    message = _with_field(error.message, error.param) if isinstance(error, Invalid) else error.message
    advice = _advice(error, surroundings)
    return f"{message.rstrip('.')}. {advice}" if advice else message


def _advice(error: SdkError, surroundings: Surroundings) -> str:
    """What to do next; empty where the message says it, or nobody knows."""
    match error:
        case Unauthenticated():
            return _how_to_sign_in(surroundings.credentials())
        case Forbidden():
            return "hearth whoami shows your role, an administrator can change it: hearth update user"
        case NotFound():
            return _where_to_look(error.message, surroundings.listed)
        case RateLimited() | Unavailable() if error.retry_after_s is not None:
            return f"Try again in {ceil(error.retry_after_s)} s"
        case NoAnswer() if is_loopback(surroundings.credentials().base_url):
            return "hearth serve starts it, hearth doctor looks for what is wrong"
        case NoAnswer():
            return "hearth whoami --base-url URL asks another one"
        case _:
            return ""


def _how_to_sign_in(credentials: Credentials) -> str:
    if credentials.api_key_source:
        return f"The key came from: {credentials.api_key_source}. hearth signin takes another one"
    return "There is no key: hearth signin, --api-key or HEARTH_API_KEY, or be the user who runs the daemon"


def _where_to_look(message: str, listed: Collection[str]) -> str:
    """`accounts/a/deployedModels/x` is looked up in `hearth list deployed-models`."""
    found = COLLECTION.search(message)
    noun = noun_of(found.group(1)) if found else ""
    return f"hearth list {noun} shows what there is" if noun in listed else ""


def _with_field(message: str, field: str | None) -> str:
    return message if not field or field in message else f"{field}: {message}"


def _refused(message: str) -> typer.Exit:
    print_error(message)
    return typer.Exit(REFUSED)
