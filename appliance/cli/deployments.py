"""`hearth … deployment`: serve a model, see how it does, change what is asked of it, stop it, bring it back."""

from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.deployment_display import (
    show_deployment,
    show_deployments,
    wait_until_deleted,
    wait_until_ready,
)
from appliance.cli.deployment_options import read_fields, with_deployment_options
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_line

DeploymentName = Annotated[
    str, typer.Argument(metavar="DEPLOYMENT", help="Id, or full name: accounts/ACCOUNT/deployments/ID.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the deployment is ready.")]


@with_deployment_options
def create(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model to serve: id, or accounts/ACCOUNT/models/ID.")],
    deployment_id: Annotated[str | None, typer.Option(metavar="ID", help="Default: a random id.")] = None,
    disable_speculative_decoding: Annotated[
        bool, typer.Option("--disable-speculative-decoding", help="Neither a draft model nor n-grams.")
    ] = False,
    disable_auto_deploy: Annotated[
        bool, typer.Option("--disable-auto-deploy", help="Do not lead the plain model name here.")
    ] = False,
    skip_shape_validation: Annotated[
        bool, typer.Option("--skip-shape-validation", help="What is said here goes before what the shape says.")
    ] = False,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Let the daemon say what it would create, without creating it.")
    ] = False,
    wait: Wait = False,
    **options: object,
) -> None:
    """Deploy a model, so that requests can name it."""
    deployment = session.client.deployments.create(
        model,
        deployment_id=deployment_id,
        validate_only=validate_only,
        disable_auto_deploy=disable_auto_deploy,
        disable_speculative_decoding=disable_speculative_decoding,
        skip_shape_validation=skip_shape_validation,
        **read_fields(options),
    )
    if wait and not validate_only:
        deployment = wait_until_ready(session, deployment)
    show_deployment(session, deployment)


def get(session: Session, deployment: DeploymentName) -> None:
    """Show one deployment, its replicas and why it has how many."""
    show_deployment(session, session.client.deployments.get(deployment))


def list_all(
    session: Session,
    show_deleted: Annotated[
        bool, typer.Option("--show-deleted", help="Also those deleted but not yet purged.")
    ] = False,
    only: Filter = "",
    order_by: OrderBy = "",
) -> None:
    """Show the deployments of an account."""
    deployments = session.client.deployments.list(show_deleted=show_deleted, filter=only, order_by=order_by)
    show_deployments(session, list(deployments))


@with_deployment_options
def update(
    session: Session,
    deployment: DeploymentName,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Let the daemon say what would be, without changing it.")
    ] = False,
    wait: Wait = False,
    **options: object,
) -> None:
    """Change what is asked of a deployment; replicas that cannot serve it so are replaced one by one."""
    fields = read_fields(options)
    if not fields:
        raise typer.BadParameter("say what to change, for example --max-replica-count 2")
    changed = session.client.deployments.update(deployment, validate_only=validate_only, **fields)
    if wait and not validate_only:
        changed = wait_until_ready(session, changed)
    show_deployment(session, changed)


def scale(
    session: Session,
    deployment: DeploymentName,
    replica_count: Annotated[int, typer.Option(min=0, metavar="N", help="Replicas wanted; 0 frees the devices.")],
) -> None:
    """Set how many replicas a deployment has."""
    session.client.deployments.scale(deployment, replica_count)
    show_deployment(session, session.client.deployments.get(deployment))


def delete(
    session: Session,
    deployment: DeploymentName,
    hard: Annotated[bool, typer.Option("--hard", help="Purge at once, so that it cannot be undeleted.")] = False,
    ignore_checks: Annotated[bool, typer.Option("--ignore-checks", help="Delete although it is in use.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until its replicas are gone.")] = False,
) -> None:
    """Stop a deployment and delete it."""
    session.client.deployments.delete(deployment, hard=hard, ignore_checks=ignore_checks)
    if wait:
        wait_until_deleted(session, deployment)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {deployment}")


def undelete(session: Session, deployment: DeploymentName, wait: Wait = False) -> None:
    """Bring a deleted deployment back, until it is purged."""
    restored = session.client.deployments.undelete(deployment)
    if wait:
        restored = wait_until_ready(session, restored)
    show_deployment(session, restored)


COMMANDS = [
    Command(
        "create",
        "deployment",
        create,
        (
            "hearth create deployment ember-chat --wait",
            "hearth create deployment my-model --deployment-id blue --max-replica-count 2",
            "hearth create deployment my-model --deployment-shape throughput",
        ),
    ),
    Command("get", "deployment", get, ("hearth get deployment blue", "hearth get deployment blue -o json")),
    Command("list", "deployment", list_all, ("hearth list deployments",)),
    Command(
        "update",
        "deployment",
        update,
        (
            "hearth update deployment blue --max-replica-count 3",
            "hearth update deployment blue --precision FP16 --wait",
        ),
    ),
    Command("scale", "deployment", scale, ("hearth scale deployment blue --replica-count 2",)),
    Command("delete", "deployment", delete, ("hearth delete deployment blue",)),
    Command("undelete", "deployment", undelete, ("hearth undelete deployment blue",)),
]
