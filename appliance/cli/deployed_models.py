"""`hearth deploy`, `undeploy`, `load-lora`, `unload-lora` and `hearth … deployed-model`: where models are served."""

import time
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import (
    print_json,
    print_line,
    print_note,
    print_record,
    print_table,
    progress_line,
    readable_time,
)
from appliance.sdk.deployed_models import DeployedModel
from appliance.sdk.errors import NotFound, SdkError

POLL_INTERVAL_S = 0.5

DeployedModelName = Annotated[
    str, typer.Argument(metavar="NAME", help="Id, or full name: accounts/ACCOUNT/deployedModels/ID.")
]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Id, or full name: accounts/ACCOUNT/models/ID.")]
DeploymentName = Annotated[
    str | None,
    typer.Option("--deployment-id", "--deployment", metavar="ID", help="Default: the only one that it can be."),
]
DisplayName = Annotated[str | None, typer.Option(metavar="NAME", help="Human-readable, fewer than 64 characters.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")]
Default = Annotated[bool, typer.Option("--default", help="Lead the model's plain name here.")]


def deploy(
    session: Session,
    model: ModelName,
    deployment: DeploymentName = None,
    display_name: DisplayName = None,
    description: Description = None,
    default: Default = False,
    public: Annotated[bool, typer.Option("--public", help="Let every account of this box ask it.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it answers.")] = False,
) -> None:
    """Serve a LoRA addon on a deployment of its base model.

    A base model needs this only on a deployment that does not carry its name:
    creating a deployment deploys its model.
    """
    deployed = session.client.deployed_models.create(
        model,
        deployment=deployment,
        display_name=display_name,
        description=description,
        default=default or None,
        public=public or None,
    )
    _show(session, _wait_until_deployed(session, deployed) if wait else deployed)


def undeploy(
    session: Session,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model, or deployed model: id of the model, or full name.")
    ],
    deployment: DeploymentName = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is unloaded.")] = False,
) -> None:
    """Stop serving a LoRA addon, or a model's name, on a deployment."""
    deployed = _find(session, model, deployment)
    _delete(session, deployed.name, wait)


def get(session: Session, name: DeployedModelName) -> None:
    """Show where and how a model is served."""
    _show(session, session.client.deployed_models.get(name))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show what an account serves; `*` marks where a model's plain name leads."""
    found = list(session.client.deployed_models.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(found)
    rows = [
        [_id(each.name), each.model, _id(each.deployment), f"{each.state}{' *' if each.default else ''}"]
        for each in found
    ]
    print_table(["ID", "MODEL", "DEPLOYMENT", "STATE"], rows)
    for each in found:
        if each.status.message:
            print_note(f"{_id(each.name)}: {each.status.message}")
    return None


def update(
    session: Session,
    name: DeployedModelName,
    default: Default = False,
    public: Annotated[
        bool | None, typer.Option("--public/--no-public", help="Whether every account of this box may ask it.")
    ] = None,
    display_name: DisplayName = None,
    description: Description = None,
) -> None:
    """Make it the default of its model, publish it, or rename it."""
    changed = session.client.deployed_models.update(
        name, default=default or None, public=public, display_name=display_name, description=description
    )
    _show(session, changed)


def delete(
    session: Session,
    name: DeployedModelName,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is unloaded.")] = False,
) -> None:
    """Unload a LoRA addon, or take a model's name from a deployment."""
    _delete(session, name, wait)


def _find(session: Session, model: str, deployment: str | None) -> DeployedModel:
    """The one place that is meant."""
    if "/deployedModels/" in model:
        return session.client.deployed_models.get(model)
    name = session.client.models.get(model).name
    found = [
        each
        for each in session.client.deployed_models.list(filter=f'model="{name}"')
        if deployment is None or deployment in (each.deployment, _id(each.deployment))
    ]
    if len(found) == 1:
        return found[0]
    where = "here" if deployment is None else f"on {deployment}"
    if not found:
        raise SdkError(f"{name} is not deployed {where}")
    places = ", ".join(_id(each.deployment) for each in found)
    raise SdkError(f"{name} is deployed on {places}: say which with --deployment-id")


def _wait_until_deployed(session: Session, deployed: DeployedModel) -> DeployedModel:
    with progress_line() as progress:
        while deployed.state != "DEPLOYED":
            progress.show(" · ".join(filter(None, [_id(deployed.name), deployed.state, deployed.status.message])))
            time.sleep(POLL_INTERVAL_S)
            deployed = session.client.deployed_models.get(deployed.name)
            if deployed.state not in ("DEPLOYING", "DEPLOYED"):
                raise SdkError(f"{deployed.name} is not deployed: {deployed.status.message or deployed.state}")
    return deployed


def _delete(session: Session, name: str, wait: bool) -> None:
    session.client.deployed_models.delete(name)
    if wait:
        with progress_line() as progress:
            try:
                while True:
                    progress.show(f"{_id(name)} · {session.client.deployed_models.get(name).state}")
                    time.sleep(POLL_INTERVAL_S)
            except NotFound:
                pass  # it is unloaded
    if session.is_json:
        return print_json({})
    return print_line(f"Undeployed {name}")


def _show(session: Session, deployed: DeployedModel) -> None:
    if session.is_json:
        return print_json(deployed)
    return print_record(
        [
            ("Name", deployed.name),
            ("Display name", deployed.display_name),
            ("Description", deployed.description),
            ("Model", deployed.model),
            ("Deployment", deployed.deployment),
            ("State", deployed.state),
            ("Status", deployed.status.message),
            ("Default", "yes" if deployed.default else "no"),
            ("Public", "yes" if deployed.public else "no"),
            ("Created", readable_time(deployed.create_time)),
            ("Updated", readable_time(deployed.update_time)),
        ]
    )


def _id(name: str) -> str:
    return name.rpartition("/")[2]


COMMANDS = [
    Command(
        "deploy",
        None,
        deploy,
        ("hearth deploy my-addon --deployment-id blue --wait", "hearth load-lora my-addon --deployment blue --public"),
        also=("load-lora", "model load-lora"),
    ),
    Command(
        "undeploy",
        None,
        undeploy,
        ("hearth undeploy my-addon", "hearth unload-lora my-addon --deployment blue"),
        also=("unload-lora", "model unload-lora"),
    ),
    Command("get", "deployed-model", get, ("hearth get deployed-model my-addon-x7k2m4qa",)),
    Command("list", "deployed-model", list_all, ("hearth list deployed-models",)),
    Command(
        "update",
        "deployed-model",
        update,
        (
            "hearth update deployed-model my-addon-x7k2m4qa --default",
            "hearth update deployed-model my-addon-x7k2m4qa --no-public",
        ),
    ),
    Command("delete", "deployed-model", delete, ("hearth delete deployed-model my-addon-x7k2m4qa",)),
]
