"""`hearth … deployment-shape` and `hearth … deployment-shape-version`: presets of what a deployment may spend."""

from collections.abc import Sequence
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import print_json, print_note, print_record, print_table, readable_time
from appliance.cli.units import readable_bytes
from appliance.sdk.deployment_shapes import ANY_SHAPE, DeploymentShape, DeploymentShapeVersion

ShapeName = Annotated[
    str, typer.Argument(metavar="SHAPE", help="Id, or full name: accounts/fireworks/deploymentShapes/fast.")
]
VersionName = Annotated[
    str, typer.Argument(metavar="VERSION", help="SHAPE/VERSION, or full name: accounts/…/versions/VERSION.")
]


def get(session: Session, shape: ShapeName) -> None:
    """Show one shape."""
    show_shape(session, session.client.deployment_shapes.get(shape))


def list_all(
    session: Session,
    target_model: Annotated[
        str, typer.Option(metavar="MODEL", help="Those that fit this model here, with the numbers it would have.")
    ] = "",
    only: Filter = "",
    order_by: OrderBy = "",
) -> None:
    """Show the shapes of an account; `-a fireworks` shows the presets of this box."""
    shapes = list(session.client.deployment_shapes.list(target_model=target_model, filter=only, order_by=order_by))
    if session.is_json:
        return print_json(shapes)
    print_table(
        ["ID", "PRESET", "MODEL", "DEVICES", "CONTEXT", "MEMORY"],
        [[_id(shape.name), *_cells(shape)] for shape in shapes],
    )
    return _point_to_presets(shapes)


def get_version(session: Session, version: VersionName) -> None:
    """Show one version of a shape."""
    show_version(session, session.client.deployment_shapes.get_version(version))


def show_shape(session: Session, shape: DeploymentShape) -> None:
    if session.is_json:
        return print_json(shape)
    return print_record(_record(shape))


def show_version(session: Session, found: DeploymentShapeVersion) -> None:
    if session.is_json:
        return print_json(found)
    marks = [("Validated", found.validated), ("Latest validated", found.latest_validated), ("Public", found.public)]
    return print_record(
        [
            ("Name", found.name),
            *((name, "yes" if holds else "no") for name, holds in marks),
            *_record(found.snapshot)[1:],
        ]
    )


def list_versions(
    session: Session,
    base_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Those that a deployment of this model could have here.")
    ] = None,
    shape: Annotated[str, typer.Option(metavar="SHAPE", help="Of this shape alone.")] = ANY_SHAPE,
    only: Filter = "",
    order_by: OrderBy = "",
) -> None:
    """Show the versions of an account's shapes; `-a fireworks` shows the presets of this box."""
    shapes = session.client.deployment_shapes
    if base_model is None:
        versions = list(shapes.list_versions(shape, filter=only, order_by=order_by))
    elif only or order_by or shape != ANY_SHAPE:
        raise typer.BadParameter("--base-model asks for all that fit; it goes with no other choice")
    else:
        versions = list(shapes.match(base_model))
    if session.is_json:
        return print_json(versions)
    headings = ["VERSION", "VALIDATED", "PRESET", "MODEL", "DEVICES", "CONTEXT", "MEMORY"]
    rows = [
        [_short_version(version.name), "yes" if version.validated else "no", *_cells(version.snapshot)]
        for version in versions
    ]
    print_table(headings, rows)
    return _point_to_presets(versions)


def _point_to_presets(found: Sequence[object]) -> None:
    if not found:
        print_note("None of its own; -a fireworks shows the presets of this box")


def _record(shape: DeploymentShape) -> list[tuple[str, str]]:
    return [
        ("Name", shape.name),
        ("Display name", shape.display_name),
        ("Description", shape.description),
        ("Preset", shape.preset_type),
        ("Base model", shape.base_model),
        ("Type", shape.model_type),
        ("Devices", _devices(shape)),
        ("Precision", shape.precision),
        ("Context length", str(shape.max_context_length or "")),
        ("Memory", _memory(shape)),
        ("Addons", "enabled" if shape.enable_addons else ""),
        ("Created", readable_time(shape.create_time)),
        ("Updated", readable_time(shape.update_time)),
    ]


def _cells(shape: DeploymentShape) -> list[str]:
    context = str(shape.max_context_length or "")
    return [shape.preset_type, _id(shape.base_model), _devices(shape), context, _memory(shape)]


def _devices(shape: DeploymentShape) -> str:
    return f"{shape.accelerator_count} × {shape.accelerator_type}" if shape.accelerator_type else ""


def _memory(shape: DeploymentShape) -> str:
    return readable_bytes(int(shape.memory_bytes)) if shape.memory_bytes else ""


def _id(name: str) -> str:
    return name.rpartition("/")[2]


def _short_version(name: str) -> str:
    """`SHAPE/VERSION`, as `get` takes it."""
    match name.split("/"):
        case [*_, shape_id, "versions", version_id]:
            return f"{shape_id}/{version_id}"
    return name


COMMANDS = [
    Command(
        "get",
        "deployment-shape",
        get,
        ("hearth get deployment-shape accounts/fireworks/deploymentShapes/fast",),
    ),
    Command(
        "list",
        "deployment-shape",
        list_all,
        ("hearth list deployment-shapes", "hearth list deployment-shapes -a fireworks --target-model my-model"),
    ),
    Command("get", "deployment-shape-version", get_version, ("hearth get deployment-shape-version my-shape/v1",)),
    Command(
        "list",
        "deployment-shape-version",
        list_versions,
        (
            "hearth list deployment-shape-versions -a fireworks",
            "hearth list deployment-shape-versions --base-model my-model",
        ),
    ),
]
