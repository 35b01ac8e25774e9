"""`hearth import model` and `hearth … operation`: models whose files the daemon fetches by itself."""

import time
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.model_display import short_name, show_model
from appliance.cli.model_options import read_model_fields, with_model_options
from appliance.cli.models import BaseModel, Embedding, ModelId, kind_field
from appliance.cli.output import (
    print_json,
    print_line,
    print_note,
    print_record,
    print_table,
    progress_line,
    readable_time,
)
from appliance.cli.units import readable_bytes
from appliance.sdk.errors import SdkError
from appliance.sdk.models import Operation

POLL_INTERVAL_S = 0.5

OperationName = Annotated[
    str, typer.Argument(metavar="OPERATION", help="Id, or full name: accounts/ACCOUNT/operations/ID.")
]


@with_model_options
def import_model(
    session: Session,
    model_id: ModelId,
    local_path: Annotated[
        str | None,
        typer.Option("--from", metavar="PATH", help="A folder of the daemon's machine, below its import_roots."),
    ] = None,
    hugging_face_repo: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="A repository of the hub; needs the daemon's allow_hub.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Branch, tag or commit of the repository. Default: main.")
    ] = None,
    base_model: BaseModel = None,
    embedding: Embedding = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the model is ready.")] = False,
    **options: object,
) -> None:
    """Have the daemon bring a model by itself, from a folder of its machine or from the hub.

    When an import failed, the same command goes on with what had arrived.
    """
    if (local_path is None) == (hugging_face_repo is None):
        raise typer.BadParameter("say either --from PATH or --hugging-face-repo ORG/NAME")
    operation = session.client.models.start_import(
        model_id,
        local_path=local_path,
        repository=hugging_face_repo,
        revision=revision,
        base_model=base_model,
        **(read_model_fields(options) | kind_field(base_model, embedding)),
    )
    if not wait:
        return show_operation(session, operation)
    _wait(session, operation)
    return show_model(session, session.client.models.get(model_id))


def get(session: Session, operation: OperationName) -> None:
    """Show how far an import is."""
    show_operation(session, session.client.models.get_operation(operation))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the imports of an account, the newest first."""
    operations = list(session.client.models.list_operations(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(operations)
    rows = [
        [
            short_name(each.name),
            short_name(each.metadata.model),
            each.metadata.state,
            f"{each.metadata.percent}%",
            readable_time(each.metadata.create_time),
        ]
        for each in operations
    ]
    return print_table(["ID", "MODEL", "STATE", "DONE", "CREATED"], rows)


def cancel(session: Session, operation: OperationName) -> None:
    """Stop an import. What has arrived stays for another attempt."""
    session.client.models.cancel_operation(operation)
    if session.is_json:
        return print_json({})
    return print_line(f"Cancelled {operation}")


def show_operation(session: Session, operation: Operation) -> None:
    if session.is_json:
        return print_json(operation)
    told = operation.metadata
    return print_record(
        [
            ("Name", operation.name),
            ("Model", told.model),
            ("Source", told.source),
            ("State", told.state),
            ("Progress", _progress(operation)),
            ("Error", operation.error.message if operation.error else ""),
            ("Created", readable_time(told.create_time)),
        ]
    )


def _wait(session: Session, operation: Operation) -> None:
    """Raises when it fails. Ctrl-C leaves it to itself."""
    try:
        with progress_line() as line:
            while not operation.done:
                line.show(f"importing {short_name(operation.metadata.model)}: {_progress(operation)}")
                time.sleep(POLL_INTERVAL_S)
                operation = session.client.models.get_operation(operation.name)
    except KeyboardInterrupt:
        print_note(f"it goes on without being watched; hearth get operation {short_name(operation.name)}")
        raise
    if operation.error is not None:
        raise SdkError(f"{operation.metadata.model} was not imported: {operation.error.message}")


def _progress(operation: Operation) -> str:
    told = operation.metadata
    if told.total_bytes == "0":
        return "looking"
    return f"{told.percent}% of {readable_bytes(int(told.total_bytes))}"


COMMANDS = [
    Command(
        "import",
        "model",
        import_model,
        (
            "hearth import model my-model --from /srv/models/my-model --wait",
            "hearth import model my-model --hugging-face-repo org/name --revision main --wait",
        ),
    ),
    Command("get", "operation", get, ("hearth get operation abcdefgh",)),
    Command("list", "operation", list_all, ("hearth list operations",)),
    Command("cancel", "operation", cancel, ("hearth cancel operation abcdefgh",)),
]
