"""The `hearth` command: every declared command under its verb and under its noun, and nothing else."""

import sys

import typer

from appliance.cli import (
    accounts,
    api_keys,
    audit,
    audit_logs,
    backup,
    billing,
    chat,
    completion,
    config,
    datasets,
    deployed_models,
    deployment_shapes,
    deployments,
    doctor,
    fleet,
    identity_providers,
    lease,
    model_imports,
    models,
    own_shapes,
    quotas,
    reservations,
    secrets,
    serve,
    signin,
    top,
    upgrade,
    users,
    versions,
)
from appliance.cli.commands import AccountId, ApiKey, BaseUrl, Command, DryRun, Output, ProfileName
from appliance.cli.grammar import plant
from appliance.cli.groups import listed_nouns, root_group

HELP = """Serve language models on the GPUs of this machine, with the APIs your clients already speak.

Verbs and nouns come in either order: create deployment, deployment create.
"""
FIRST_STEPS = """Serve language models on the GPUs of this machine,
with the APIs your clients already speak.

First steps:
  hearth serve                                 run the daemon
  hearth chat ember-chat                       talk with the built-in model
  hearth create model my-model ./checkpoint/   upload a model of your own
  hearth create deployment my-model --wait     serve it

Then:
  hearth list deployments                      any verb, any noun, either order
  hearth create deployment --help              what a command takes
  hearth completion bash                       completion for your shell
  hearth --help                                everything there is
"""

VERBS = {
    "create": "Create a resource.",
    "get": "Show one resource.",
    "list": "Show all resources of a kind.",
    "update": "Change a resource.",
    "delete": "Delete a resource.",
    "undelete": "Bring a deleted resource back.",
    "scale": "Change how many replicas serve.",
    "explain": "Say why something does not serve.",
}
"""What only one or two nouns have is shown under those alone."""
NOUNS = {
    "model": "Weights on disk.",
    "operation": "An import of a model, under way or past.",
    "dataset": "Examples to train or run a model on.",
    "deployment": "A model being served.",
    "deployed-model": "Where a model, or a LoRA addon, is served.",
    "deployment-shape": "Options of deployments under a name: presets of this box, and an account's own.",
    "deployment-shape-version": "A shape as it was at some time.",
    "reservation": "Devices held for an account.",
    "cluster": "This box.",
    "quota": "How much may be used of what.",
    "billing": "What was used.",
    "account": "A tenant of the box.",
    "user": "Somebody in an account, or a service account.",
    "api-key": "What clients identify themselves with.",
    "secret": "What jobs may use and nobody may read again.",
    "identity-provider": "Who vouches for the people of an account.",
    "audit-log": "Who did what in an account, or was refused.",
    "audit": "The audit log on this machine.",
    "config": "The settings of the daemon.",
}
SECTIONS = {
    "Serve and talk": ("serve", "chat", "deploy", "undeploy"),
    "See what happens": ("ps", "top", "whoami", "version", "doctor", "audit"),
    "Who you are": ("signin", "signout", "set-api-key"),
    "This machine": ("config", "backup", "restore", "upgrade", "lease", "completion"),
    "Verbs, before a noun": tuple(VERBS),
    "Nouns, before a verb": tuple(NOUNS),
}
"""How `hearth --help` is laid out; what is in none of them stands at its end."""

COMMANDS = [
    Command("serve", None, serve.serve, serve.EXAMPLES, takes_session=False),
    *chat.COMMANDS,
    *audit.COMMANDS,
    *audit_logs.COMMANDS,
    *models.COMMANDS,
    *model_imports.COMMANDS,
    *datasets.COMMANDS,
    *deployments.COMMANDS,
    *deployed_models.COMMANDS,
    *deployment_shapes.COMMANDS,
    *own_shapes.COMMANDS,
    *reservations.COMMANDS,
    *quotas.COMMANDS,
    *billing.COMMANDS,
    *accounts.COMMANDS,
    *users.COMMANDS,
    *api_keys.COMMANDS,
    *secrets.COMMANDS,
    *identity_providers.COMMANDS,
    *fleet.COMMANDS,
    *top.COMMANDS,
    *lease.COMMANDS,
    *signin.COMMANDS,
    *versions.COMMANDS,
    *completion.COMMANDS,
    *doctor.COMMANDS,
    *config.COMMANDS,
    *backup.COMMANDS,
    *upgrade.COMMANDS,
]


def build_app() -> typer.Typer:
    tree = plant(COMMANDS, VERBS, NOUNS)
    app = typer.Typer(
        cls=root_group(tree, SECTIONS, listed_nouns(COMMANDS)),
        help=HELP,
        invoke_without_command=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_start)
    return app


def main() -> int:
    build_app()(prog_name="hearth")
    return 0


def _start(
    context: typer.Context,
    account_id: AccountId = None,
    api_key: ApiKey = None,
    base_url: BaseUrl = None,
    profile: ProfileName = None,
    output: Output = None,
    dry_run: DryRun = False,
) -> None:
    """The shared options are also taken before the verb; each command reads them from its context."""
    if context.invoked_subcommand is None:
        sys.stdout.write(FIRST_STEPS)
