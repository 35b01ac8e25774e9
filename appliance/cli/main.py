"""The `hearth` command: every declared command under its verb and under its noun, and nothing else."""

from importlib.metadata import version as distribution_version

import typer

from appliance.cli import api_keys, chat, deployed_models, deployments, fleet, lease, models, serve, top
from appliance.cli.commands import AccountId, ApiKey, BaseUrl, Command, Output, Session, build_callback, help_text
from appliance.cli.output import print_json, print_line, print_record

HELP = """Serve language models on the GPUs of this machine, with the APIs your clients already speak.

Verbs and nouns come in either order: create deployment, deployment create.

\b
First steps:
  hearth serve
  hearth chat ember-chat
  hearth create model my-model ./checkpoint/
  hearth create deployment my-model --wait
"""

VERBS = {
    "create": "Create a resource.",
    "get": "Show one resource.",
    "list": "Show all resources of a kind.",
    "update": "Change a resource.",
    "scale": "Change how many replicas serve.",
    "explain": "Say why something does not serve.",
    "delete": "Delete a resource.",
    "undelete": "Bring a deleted resource back.",
}
NOUNS = {
    "model": "Weights on disk.",
    "deployment": "A model being served.",
    "deployed-model": "Where a model, or a LoRA addon, is served.",
    "api-key": "What clients identify themselves with.",
}


def whoami(session: Session) -> None:
    """Show the account that the key belongs to."""
    client = session.client
    if session.is_json:
        return print_json({"account": f"accounts/{client.key_account_id}", "baseUrl": client.base_url})
    return print_record([("Account", f"accounts/{client.key_account_id}"), ("Base URL", client.base_url)])


def version(session: Session) -> None:
    """Show the version of this program."""
    number = distribution_version("hearth")
    if session.is_json:
        return print_json({"version": number})
    return print_line(f"hearth {number}")


COMMANDS = [
    *models.COMMANDS,
    *deployments.COMMANDS,
    *deployed_models.COMMANDS,
    *api_keys.COMMANDS,
    *fleet.COMMANDS,
    *top.COMMANDS,
    *lease.COMMANDS,
    *chat.COMMANDS,
    Command("whoami", None, whoami, ("hearth whoami",)),
    Command("version", None, version, ("hearth version",)),
]


def plural(noun: str) -> str:
    return f"{noun}s"


def build_app() -> typer.Typer:
    app = _new_group(HELP)
    app.callback()(_accept_shared_options)
    app.command("serve", help=help_text(serve.serve, serve.EXAMPLES))(serve.serve)
    for command in COMMANDS:
        if command.noun is None:
            _add_command(app, command.verb, command)
    for verb, text in VERBS.items():
        _add_verb(app, verb, text)
    for noun, text in NOUNS.items():
        _add_noun(app, noun, text)
    return app


def main() -> int:
    build_app()(prog_name="hearth")
    return 0


def _new_group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
    )


def _add_verb(app: typer.Typer, verb: str, text: str) -> None:
    """`hearth VERB NOUN`, the noun in singular or plural."""
    group = _new_group(text)
    for command in COMMANDS:
        if command.verb == verb and command.noun is not None:
            names = [command.noun, plural(command.noun)]
            shown, hidden = reversed(names) if verb == "list" else names
            _add_command(group, shown, command)
            _add_command(group, hidden, command, is_hidden=True)
    app.add_typer(group, name=verb)


def _add_noun(app: typer.Typer, noun: str, text: str) -> None:
    """`hearth NOUN VERB`, likewise."""
    group = _new_group(text)
    for command in COMMANDS:
        if command.noun == noun:
            _add_command(group, command.verb, command)
    app.add_typer(group, name=noun)
    app.add_typer(group, name=plural(noun), hidden=True)


def _add_command(group: typer.Typer, name: str, command: Command, is_hidden: bool = False) -> None:
    group.command(name, help=help_text(command.run, command.examples), hidden=is_hidden)(build_callback(command))


def _accept_shared_options(
    account_id: AccountId = None, api_key: ApiKey = None, base_url: BaseUrl = None, output: Output = None
) -> None:
    """Also taken before the verb; each command reads them from its context."""
