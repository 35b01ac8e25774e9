"""`hearth … model`: bring a Hugging Face folder onto the box, look at models, remove them."""

from pathlib import Path
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
    readable_time,
    upload_progress,
)
from appliance.sdk.errors import Conflict, SdkError
from appliance.sdk.resources import DeployedModelRef, Model

WEIGHTS_SUFFIX = ".safetensors"
FILE_SUFFIXES = {WEIGHTS_SUFFIX, ".json", ".jinja", ".model", ".txt"}
"""Weights, configuration, chat template, and the two older forms of a tokenizer."""

MODEL_CONFIG, ADDON_CONFIG = "config.json", "adapter_config.json"

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Id, or full name: accounts/ACCOUNT/models/ID.")]


def create(
    session: Session,
    model_id: Annotated[str, typer.Argument(metavar="ID", help="Letters a-z, digits and hyphens.")],
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", exists=True, file_okay=False, help="Hugging Face folder: config, tokenizer, safetensors."
        ),
    ],
    base_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="PATH holds a LoRA addon of this model, as peft saves it.")
    ] = None,
    display_name: Annotated[
        str, typer.Option(metavar="NAME", help="Human-readable name, fewer than 64 characters.")
    ] = "",
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is, fewer than 1000 characters.")] = "",
    public: Annotated[bool, typer.Option("--public", help="Let every account of this box use it.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no upload progress.")] = False,
) -> None:
    """Upload a model. The daemon checks the files; afterwards the model can be deployed.

    When an upload broke off, the same command takes it up again.
    """
    files = files_of(path, ADDON_CONFIG if base_model else MODEL_CONFIG)
    try:
        model = session.client.models.create(
            model_id, base_model=base_model, display_name=display_name, description=description, public=public
        )
    except Conflict:
        model = session.client.models.get(model_id)
        if model.state != "UPLOADING":
            raise
        print_note(f"{model.name} waits for its files; uploading them again")
    try:
        with upload_progress(files, is_quiet=quiet) as on_sent:
            warnings = session.client.models.upload(model.name, files, on_sent)
    except SdkError:
        print_note(f"{model.name} stays UPLOADING: correct the files and repeat, or hearth delete model {model_id}")
        raise
    for warning in warnings:
        print_note(f"Warning: {warning}")
    _show(session, session.client.models.get(model.name))


def get(session: Session, model: ModelName) -> None:
    """Show one model."""
    _show(session, session.client.models.get(model))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the models of an account; `-a fireworks` shows the library's."""
    models = list(session.client.models.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(models)
    rows = [
        [
            _id(model.name),
            model.state,
            str(model.context_length or ""),
            _precision(model),
            readable_time(model.create_time),
        ]
        for model in models
    ]
    return print_table(["ID", "STATE", "CONTEXT", "PRECISION", "CREATED"], rows)


def delete(session: Session, model: ModelName) -> None:
    """Remove a model and its files. Refused while a deployment uses it."""
    session.client.models.delete(model)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {model}")


def files_of(folder: Path, config: str = MODEL_CONFIG) -> list[Path]:
    """The files a model consists of. The daemon would refuse some of the others, and use none of them."""
    found = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    files = [file for file in found if file.suffix in FILE_SUFFIXES and file.is_file()]
    names = {file.name for file in files}
    if config not in names:
        other = "; for a LoRA addon say its --base-model" if ADDON_CONFIG in names else ""
        raise SdkError(f"{folder} has no {config}: it is not a Hugging Face model folder{other}")
    if not any(file.suffix == WEIGHTS_SUFFIX for file in files):
        raise SdkError(f"{folder} has no {WEIGHTS_SUFFIX} files; weights in other formats must be converted first")
    if left_out := [file.name for file in found if file not in files]:
        print_note(f"Not part of the model, left out: {', '.join(left_out)}")
    return files


def _show(session: Session, model: Model) -> None:
    if session.is_json:
        return print_json(model)
    details, addon = model.base_model_details, model.peft_details
    return print_record(
        [
            ("Name", model.name),
            ("Display name", model.display_name),
            ("Description", model.description),
            ("State", model.state),
            ("Status", model.status.message),
            ("Kind", model.kind),
            ("Type", details.model_type if details else ""),
            ("Parameters", f"{int(details.parameter_count):,}" if details else ""),
            ("Precision", _precision(model)),
            ("Context length", str(model.context_length or "")),
            ("Base model", addon.base_model if addon else ""),
            ("Rank", str(addon.r or "") if addon else ""),
            ("Layers", ", ".join(addon.target_modules) if addon else ""),
            ("Serverless", "yes" if model.supports_serverless else ""),
            ("Public", "yes" if model.public else "no"),
            ("Created", readable_time(model.create_time)),
            ("Updated", readable_time(model.update_time)),
            *(("Deployed", _place(ref)) for ref in model.deployed_model_refs),
        ]
    )


def _place(ref: DeployedModelRef) -> str:
    marks = [ref.state, *(["default"] if ref.default else []), *(["public"] if ref.public else [])]
    return f"{ref.name} on {ref.deployment} ({', '.join(marks)})"


def _id(name: str) -> str:
    return name.rpartition("/")[2]


def _precision(model: Model) -> str:
    return model.base_model_details.default_precision if model.base_model_details else ""


COMMANDS = [
    Command(
        "create",
        "model",
        create,
        (
            "hearth create model my-model ./checkpoint/",
            "hearth create model my-addon ./checkpoint/ --base-model my-model",
        ),
    ),
    Command(
        "get", "model", get, ("hearth get model my-model", "hearth get model accounts/fireworks/models/ember-chat")
    ),
    Command("list", "model", list_all, ("hearth list models", "hearth list models -a fireworks")),
    Command("delete", "model", delete, ("hearth delete model my-model",)),
]
