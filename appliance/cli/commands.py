"""How a command is declared once and answers to both word orders, and the options that all of them take.

`hearth create deployment X` and `hearth deployment create X` are the same `Command`.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from appliance.cli.output import OutputFormat, print_error
from appliance.config import ClientEnvironment, client_environment
from appliance.errors import HearthError
from appliance.sdk.errors import SdkError, Unauthenticated

if TYPE_CHECKING:
    from appliance.sdk.client import Client

REFUSED = 1
"""Exit status when the daemon, or the machine, says no; 2 is for a command line that makes no sense."""

AccountId = Annotated[
    str | None, typer.Option("--account-id", "-a", metavar="ID", help="Account to act in. Default: the key's own.")
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", metavar="KEY", help="Default: HEARTH_API_KEY, else the local daemon's.")
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="Default: HEARTH_BASE_URL, else this machine.")
]
Output = Annotated[OutputFormat | None, typer.Option("--output", "-o", help="text (default) or json.")]


class Command(NamedTuple):
    """`run` takes a Session first; its other parameters are the command's arguments and options."""

    verb: str
    noun: str | None
    """Singular; None: the verb stands alone."""
    run: Callable[..., None]
    examples: tuple[str, ...]


class Session:
    """Where to, as whom, and in which form answers are printed."""

    def __init__(
        self, base_url: str | None, api_key: str | None, account_id: str | None, output: OutputFormat | None
    ) -> None:
        self._environment = client_environment()
        self._base_url = base_url or self._environment.base_url
        self._api_key = api_key or self._environment.api_key or None
        self._account_id = account_id
        self.is_json = output is OutputFormat.JSON

    @cached_property
    def client(self) -> "Client":
        # Imported on first use: `hearth --help` must not pay for an HTTP library.
        from appliance.sdk.client import Client

        return Client(self._base_url, self.api_key, self._account_id)

    @property
    def api_key(self) -> str | None:
        """As given, else the local daemon's, which goes to nobody but this machine."""
        from appliance.sdk.client import is_loopback

        if self._api_key is None and is_loopback(self._base_url):
            return read_local_key(self._environment)
        return self._api_key

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()


def read_local_key(environment: ClientEnvironment) -> str | None:
    """The key that the local daemon wrote at its first start, when this user may read it."""
    try:
        return (environment.data_dir / "admin-api-key").read_text().strip() or None
    except OSError:
        return None


def build_callback(command: Command) -> Callable[..., None]:
    """The function as typer wants it: the Session's options appended to the command's own, errors as one line."""
    own = list(inspect.signature(command.run).parameters.values())[1:]

    def callback(context: typer.Context, **arguments: Any) -> None:
        shared = context.find_root().params
        given = {name: arguments.pop(name) or shared.get(name) for name in SHARED}
        with refusals_reported(), closing(Session(**given)) as session:
            command.run(session, **arguments)

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *own, *SHARED.values()]
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return callback


def help_text(run: Callable[..., None], examples: tuple[str, ...]) -> str:
    """The docstring, then the examples, line by line."""
    lines = ["\b", "Examples:", *(f"  {example}" for example in examples)]
    return f"{inspect.getdoc(run)}\n\n" + "\n".join(lines)


@contextmanager
def refusals_reported() -> Iterator[None]:
    """Every refusal ends as one line on stderr and exit status 1."""
    try:
        yield
    except Unauthenticated as error:
        hint = "give a key with --api-key or HEARTH_API_KEY, or be the user who runs the local daemon"
        raise _refused(f"{error.message} ({hint})") from error
    except (SdkError, HearthError) as error:
        raise _refused(error.message) from error
    except BrokenPipeError:
        raise  # `hearth list models | head`: typer ends quietly
    except OSError as error:
        raise _refused(str(error)) from error


def _refused(message: str) -> typer.Exit:
    print_error(message)
    return typer.Exit(REFUSED)


def _parameter(name: str, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


SHARED = {
    name: _parameter(name, annotation)
    for name, annotation in [
        ("account_id", AccountId),
        ("api_key", ApiKey),
        ("base_url", BaseUrl),
        ("output", Output),
    ]
}
