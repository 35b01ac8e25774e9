"""How a command is declared once and answers to both word orders, and the options that all of them take.

`hearth create deployment X` and `hearth deployment create X` are the same `Command`.
"""

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from typing import Annotated, Any, NamedTuple, cast, get_args

import typer
from typer.models import ArgumentInfo, ParameterInfo

from appliance.cli.credentials import Asked
from appliance.cli.listing import PAGING, SELECTION, listing_of
from appliance.cli.output import OutputFormat, print_note
from appliance.cli.refusals import Surroundings, refusals_reported
from appliance.cli.session import NotSent, Session, print_planned
from appliance.cli.suggestions import noun_meant, suggest
from appliance.cli.words import collection_of, plural

__all__ = ["Command", "Session", "build_callback", "help_text", "refusals_reported"]

AccountId = Annotated[
    str | None, typer.Option("--account-id", "-a", metavar="ID", help="Account to act in. Default: the key's own.")
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="Default: HEARTH_API_KEY, the profile's, the local daemon's."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="Default: HEARTH_BASE_URL, the profile's, this machine."),
]
ProfileName = Annotated[
    str | None, typer.Option("--profile", "-p", metavar="NAME", help="As whom `hearth signin` signed in.")
]
Output = Annotated[OutputFormat | None, typer.Option("--output", "-o", help="text (default) or json.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the request that would be sent; change nothing.")]

SHARED: dict[str, tuple[object, object]] = {
    "account_id": (AccountId, None),
    "api_key": (ApiKey, None),
    "base_url": (BaseUrl, None),
    "profile": (ProfileName, None),
    "output": (Output, None),
    "dry_run": (DryRun, False),
}
"""Annotation and default; taken before and after each word."""

EXAMPLE_WIDTH = 72
READ_BEFORE_THEY_CHANGE = {"create", "update", "delete", "deploy", "undeploy", "import", "upload"}
"""Verbs whose dry run may ask what there is; that of all others ends at the first request."""


class Command(NamedTuple):
    """`run` takes a Session first; its other parameters are the command's arguments and options."""

    verb: str
    noun: str | None
    """Singular; None: the verb stands alone."""
    run: Callable[..., None]
    examples: tuple[str, ...]
    also: tuple[str, ...] = ()
    """Other words for the same: `prepare-model` for `model prepare`."""
    is_local: bool = False
    """It asks no daemon to change anything, so that there is no request a dry run could show."""
    takes_session: bool = True
    """False: it has nothing to do with a daemon that runs, nor with the shared options."""


def build_callback(command: Command, listed: Collection[str] = ()) -> Callable[..., None]:
    """The function as typer wants it: the shared options appended to the command's own, errors as one line.

    `listed` are the nouns that somebody who names what there is not can be sent to look up.
    """
    if not command.takes_session:
        return refusals_reported()(command.run)
    own = _with_suggestions(command, listed)
    shared = {name: _parameter(name, *option) for name, option in _shared_with(command, own).items()}

    def callback(context: typer.Context, **arguments: Any) -> None:
        given = {name: _given(context, name) for name in {**SHARED, **shared}}
        if command.is_local and given["dry_run"]:
            raise typer.BadParameter("--dry-run: this command sends nothing to the daemon that could be shown")
        session = _session(command, given)
        with refusals_reported(Surroundings(lambda: session.credentials, listed)), closing(session):
            try:
                command.run(session, **{name: value for name, value in arguments.items() if name not in shared})
            except NotSent as stop:
                print_planned(session, stop.planned)
            if session.listing is not None and session.listing.is_cut:
                print_note(f"There is more: --page-token {session.listing.next_page_token}")

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *own, *shared.values()]
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return callback


def shared_signature() -> inspect.Signature:
    """Of what stands before the verb."""
    return inspect.Signature([_parameter(name, *option) for name, option in SHARED.items()])


def help_text(run: Callable[..., None], examples: tuple[str, ...]) -> str:
    """The docstring, then the examples, line by line."""
    lines = ["\b", "Examples:", *(line for example in examples for line in _folded(example))]
    return f"{inspect.getdoc(run)}\n\n" + "\n".join(lines)


def _folded(example: str) -> list[str]:
    """Continued as a shell reads it, before an option, where it is longer than a line."""
    lines = [""]
    for part in example.replace("\\\n", " ").replace(" -", "\0-").split("\0"):
        part = " ".join(part.split())
        if lines[-1] and len(lines[-1]) + len(part) > EXAMPLE_WIDTH:
            lines[-1] += " \\"
            lines.append(f"    {part}")
        else:
            lines[-1] = f"{lines[-1]} {part}" if lines[-1] else f"  {part}"
    return lines


def _with_suggestions(command: Command, listed: Collection[str]) -> list[inspect.Parameter]:
    """The command's own parameters, each of which that names a resource completed by the ids there are."""
    own = list(inspect.signature(command.run).parameters.values())[1:]
    first = next((parameter.name for parameter in own if _is_argument(parameter)), None)
    completed = []
    for parameter in own:
        noun = noun_meant(parameter.name, command.verb, command.noun, parameter.name == first)
        if noun is not None and plural(noun) in listed:
            parameter = parameter.replace(annotation=_completed(parameter.annotation, collection_of(noun)))
        completed.append(parameter)
    return completed


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(each, ArgumentInfo) for each in getattr(parameter.annotation, "__metadata__", ()))


def _completed(annotation: Any, collection: str) -> Any:
    """`Annotated[KIND, typer.Option(…)]` with suggestions."""

    def suggestions(ctx: typer.Context, incomplete: str) -> list[str]:
        asked = Asked(*(_given(ctx, name) for name in Asked._fields))
        return list(suggest(collection, asked, incomplete))

    kind, *marks = get_args(annotation)
    marks = [copy.copy(mark) for mark in marks]
    for mark in marks:
        if isinstance(mark, ParameterInfo):
            mark.autocompletion = suggestions
    return Annotated[(kind, *marks)]


def _shared_with(command: Command, own: list[inspect.Parameter]) -> dict[str, tuple[object, object]]:
    shared = {name: option for name, option in SHARED.items() if not (command.is_local and name == "dry_run")}
    if command.verb == "list":
        shared = SELECTION | PAGING | shared
    taken = {parameter.name for parameter in own}
    return {name: option for name, option in shared.items() if name not in taken}


def _given(context: typer.Context, name: str) -> Any:
    """The last word counts."""
    if value := context.params.get(name):
        return value
    return _given(cast(typer.Context, context.parent), name) if context.parent is not None else None


def _session(command: Command, given: Mapping[str, Any]) -> Session:
    return Session(
        Asked(given["base_url"], given["api_key"], given["account_id"], given["profile"]),
        OutputFormat(given["output"]) if given["output"] else None,
        listing=listing_of(given) if command.verb == "list" else None,
        is_dry_run=bool(given["dry_run"]),
        sends_reads=command.verb in READ_BEFORE_THEY_CHANGE,
    )


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
