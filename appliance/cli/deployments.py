"""`hearth … deployment`: serve a model, see how it does, change how many replicas it has, stop it."""

import time
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.output import (
    ProgressLine,
    print_json,
    print_line,
    print_note,
    print_record,
    print_table,
    progress_line,
    readable_time,
)
from appliance.sdk.errors import NotFound, SdkError
from appliance.sdk.resources import Deployment

POLL_INTERVAL_S = 0.5

DeploymentName = Annotated[
    str, typer.Argument(metavar="DEPLOYMENT", help="Id, or full name: accounts/ACCOUNT/deployments/ID.")
]

DraftModel = Annotated[
    str | None, typer.Option(metavar="MODEL", help="A small model with the same vocabulary that guesses ahead.")
]
DraftTokenCount = Annotated[int | None, typer.Option(min=1, metavar="N", help="Tokens guessed ahead at a time.")]
NgramLength = Annotated[int | None, typer.Option(min=2, metavar="N", help="Guess what followed N tokens before.")]
NoSpeculation = Annotated[
    bool, typer.Option("--disable-speculative-decoding", help="Neither a draft model nor n-grams.")
]


def create(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model to serve: id, or accounts/ACCOUNT/models/ID.")],
    deployment_id: Annotated[str | None, typer.Option(metavar="ID", help="Default: a random id.")] = None,
    display_name: Annotated[
        str, typer.Option(metavar="NAME", help="Human-readable name, fewer than 64 characters.")
    ] = "",
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    min_replica_count: Annotated[int | None, typer.Option(min=0, metavar="N", help="Default: 0.")] = None,
    max_replica_count: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Default: the minimum, at least 1.")
    ] = None,
    accelerator_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="For example NVIDIA_H100_80GB. Default: any.")
    ] = None,
    accelerator_count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Devices per replica.")] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="P", help="BF16, FP16 or FP32. Default: the checkpoint's.")
    ] = None,
    max_context_length: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens. Default: the model's.")
    ] = None,
    draft_model: DraftModel = None,
    draft_token_count: DraftTokenCount = None,
    ngram_speculation_length: NgramLength = None,
    disable_speculative_decoding: NoSpeculation = False,
    disable_auto_deploy: Annotated[
        bool, typer.Option("--disable-auto-deploy", help="Do not lead the plain model name here.")
    ] = False,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", "--dry-run", help="Say what would be created, and create nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the deployment is ready.")] = False,
) -> None:
    """Deploy a model, so that requests can name it."""
    deployment = session.client.deployments.create(
        model,
        deployment_id=deployment_id,
        validate_only=validate_only,
        disable_auto_deploy=disable_auto_deploy,
        disable_speculative_decoding=disable_speculative_decoding,
        display_name=display_name or None,
        description=description or None,
        min_replica_count=min_replica_count,
        max_replica_count=max_replica_count,
        accelerator_type=accelerator_type,
        accelerator_count=accelerator_count,
        precision=precision,
        max_context_length=max_context_length,
        draft_model=draft_model,
        draft_token_count=draft_token_count,
        ngram_speculation_length=ngram_speculation_length,
    )
    if wait and not validate_only:
        try:
            deployment = _wait_until_ready(session, deployment)
        except KeyboardInterrupt:
            print_note(f"{deployment.name} goes on without being watched; hearth get deployment {_id(deployment.name)}")
            raise
    _show(session, deployment)


def get(session: Session, deployment: DeploymentName) -> None:
    """Show one deployment."""
    _show(session, session.client.deployments.get(deployment))


def list_all(
    session: Session,
    show_deleted: Annotated[
        bool, typer.Option("--show-deleted", help="Also those deleted but not yet purged.")
    ] = False,
) -> None:
    """Show the deployments of an account."""
    deployments = list(session.client.deployments.list(show_deleted=show_deleted))
    if session.is_json:
        return print_json(deployments)
    rows = [
        [_id(deployment.name), deployment.base_model, deployment.state, _replicas(deployment)]
        for deployment in deployments
    ]
    print_table(["ID", "MODEL", "STATE", "REPLICAS"], rows)
    for deployment in deployments:
        if deployment.status.message:
            print_note(f"{_id(deployment.name)}: {deployment.status.message}")
    return None


def scale(
    session: Session,
    deployment: DeploymentName,
    replica_count: Annotated[int, typer.Option(min=0, metavar="N", help="Replicas wanted; 0 frees the devices.")],
) -> None:
    """Set how many replicas a deployment has."""
    session.client.deployments.scale(deployment, replica_count)
    _show(session, session.client.deployments.get(deployment))


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
        _wait_until_deleted(session, deployment)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {deployment}")


def _wait_until_ready(session: Session, deployment: Deployment) -> Deployment:
    with progress_line() as progress:
        while deployment.state != "READY":
            if deployment.state in ("FAILED", "DELETING", "DELETED"):
                reason = deployment.status.message or "no reason given"
                raise SdkError(f"{deployment.name} is {deployment.state}: {reason}")
            _show_progress(progress, deployment)
            time.sleep(POLL_INTERVAL_S)
            deployment = session.client.deployments.get(deployment.name)
    return deployment


def _wait_until_deleted(session: Session, deployment: str) -> None:
    with progress_line() as progress:
        try:
            while (seen := session.client.deployments.get(deployment)).state != "DELETED":
                _show_progress(progress, seen)
                time.sleep(POLL_INTERVAL_S)
        except NotFound:
            return  # purged


def _show_progress(progress: ProgressLine, deployment: Deployment) -> None:
    parts = [_id(deployment.name), deployment.state, f"{_replicas(deployment)} replicas", deployment.status.message]
    progress.show(" · ".join(part for part in parts if part))


def _show(session: Session, deployment: Deployment) -> None:
    if session.is_json:
        return print_json(deployment)
    accelerators = f"{deployment.accelerator_count} × {deployment.accelerator_type}"
    return print_record(
        [
            ("Name", deployment.name),
            ("Display name", deployment.display_name),
            ("Description", deployment.description),
            ("Base model", deployment.base_model),
            ("State", deployment.state),
            ("Status", deployment.status.message),
            ("Replicas", f"{_replicas(deployment)} ready"),
            ("Replica limits", f"{deployment.min_replica_count} to {deployment.max_replica_count}"),
            ("Accelerators", accelerators if deployment.accelerator_type else ""),
            ("Precision", deployment.precision),
            ("Context length", str(deployment.max_context_length or "")),
            ("Draft model", deployment.draft_model),
            ("Draft tokens", str(deployment.draft_token_count or "")),
            ("N-gram length", str(deployment.ngram_speculation_length or "")),
            ("Created", readable_time(deployment.create_time)),
            ("Updated", readable_time(deployment.update_time)),
            ("Deleted", readable_time(deployment.delete_time)),
            ("Purged at", readable_time(deployment.purge_time)),
        ]
    )


def _id(name: str) -> str:
    return name.rpartition("/")[2]


def _replicas(deployment: Deployment) -> str:
    return f"{deployment.replica_stats.ready_replica_count}/{deployment.desired_replica_count}"


COMMANDS = [
    Command(
        "create",
        "deployment",
        create,
        (
            "hearth create deployment ember-chat --wait",
            "hearth create deployment my-model --deployment-id blue --max-replica-count 2",
        ),
    ),
    Command("get", "deployment", get, ("hearth get deployment blue", "hearth get deployment blue -o json")),
    Command("list", "deployment", list_all, ("hearth list deployments",)),
    Command("scale", "deployment", scale, ("hearth scale deployment blue --replica-count 2",)),
    Command("delete", "deployment", delete, ("hearth delete deployment blue",)),
]
