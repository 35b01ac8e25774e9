"""`hearth create|update|delete deployment-shape`: options of deployments under a name of the account's own."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.deployment_options import OPTIONS, with_options
from appliance.cli.deployment_shapes import ShapeName, VersionName, show_shape, show_version
from appliance.cli.output import print_json, print_line

TAKEN_OVER = (
    "display_name",
    "description",
    "accelerator_type",
    "accelerator_count",
    "precision",
    "max_context_length",
    "kv_cache_fraction",
    "enable_addons",
    "enable_session_affinity",
    "draft_model",
    "draft_token_count",
    "ngram_speculation_length",
)
PRESET = Annotated[str | None, typer.Option(metavar="PRESET", help="How much memory: MINIMAL, FAST or THROUGHPUT.")]
SHAPE_OPTIONS = {name: OPTIONS[name] for name in TAKEN_OVER} | {"preset_type": PRESET}


def create(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Whose deployments it is for.")],
    deployment_shape_id: Annotated[str, typer.Option(metavar="ID", help="Default: one that is made up.")] = "",
    **options: object,
) -> None:
    """Keep options of a model's deployments under a name: `hearth create deployment MODEL --deployment-shape ID`."""
    show_shape(session, session.client.deployment_shapes.create(model, deployment_shape_id, **_given(options)))


def update(session: Session, shape: ShapeName, **options: object) -> None:
    """Make a new version of a shape; deployments keep the version that they were made with."""
    show_shape(session, session.client.deployment_shapes.update(shape, **_given(options)))


def delete(session: Session, shape: ShapeName) -> None:
    """Delete a shape with all its versions; deployments keep what they took over."""
    session.client.deployment_shapes.delete(shape)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {shape}")


def update_version(
    session: Session,
    version: VersionName,
    public: Annotated[bool, typer.Option("--public/--no-public", help="Let other accounts see and use it.")],
) -> None:
    """Share a version of a shape with the other accounts of this box, or no longer."""
    show_version(session, session.client.deployment_shapes.publish(version, public))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


COMMANDS = [
    Command(
        "create",
        "deployment-shape",
        with_options(create, SHAPE_OPTIONS),
        ("hearth create deployment-shape my-model --deployment-shape-id exact --precision FP32",),
    ),
    Command(
        "update",
        "deployment-shape",
        with_options(update, SHAPE_OPTIONS),
        ("hearth update deployment-shape exact --max-context-length 4096",),
    ),
    Command("delete", "deployment-shape", delete, ("hearth delete deployment-shape exact",)),
    Command(
        "update",
        "deployment-shape-version",
        update_version,
        ("hearth update deployment-shape-version exact/v1 --public",),
    ),
]
