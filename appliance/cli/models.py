"""`hearth … model`: bring a Hugging Face folder onto the box, look at models, change, take them back, remove them."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.model_display import show_model, show_models
from appliance.cli.model_options import read_model_fields, with_model_options
from appliance.cli.output import (
    download_progress,
    print_json,
    print_line,
    print_note,
    upload_progress,
)
from appliance.sdk.errors import Conflict, SdkError

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Id, or full name: accounts/ACCOUNT/models/ID.")]
ModelId = Annotated[str, typer.Argument(metavar="ID", help="Letters a-z, digits and hyphens.")]
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        exists=True,
        file_okay=False,
        help="Folder of a model: Hugging Face, sentence-transformers, diffusers, or Whisper for CTranslate2.",
    ),
]
BaseModel = Annotated[
    str | None, typer.Option(metavar="MODEL", help="It is a LoRA addon of this model, as peft or diffusers saves it.")
]
Embedding = Annotated[
    bool, typer.Option("--embedding", help="It is to embed or rank, though its folder may be any language model's.")
]
Resumable = Annotated[
    bool,
    typer.Option(
        "--enable-resumable-upload/--no-enable-resumable-upload",
        help="Go on where a broken upload of a large file ended. Default: yes.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no upload progress.")]


@with_model_options
def create(
    session: Session,
    model_id: ModelId,
    path: Folder,
    base_model: BaseModel = None,
    embedding: Embedding = False,
    enable_resumable_upload: Resumable = True,
    quiet: Quiet = False,
    **options: object,
) -> None:
    """Upload a model. The daemon checks the files; afterwards the model can be deployed.

    When an upload broke off, the same command takes it up again, and large files where they ended.
    """
    fields = read_model_fields(options) | kind_field(base_model, embedding)
    files = _files_of(path, is_addon=base_model is not None)
    try:
        model = session.client.models.create(model_id, base_model=base_model, **fields)
    except Conflict:
        model = session.client.models.get(model_id)
        if model.state != "UPLOADING":
            raise
        print_note(f"{model.name} waits for its files; uploading them again")
    _send(session, model.name, path, files, enable_resumable_upload, quiet)


def upload(
    session: Session, model: ModelName, path: Folder, enable_resumable_upload: Resumable = True, quiet: Quiet = False
) -> None:
    """Send the files of a model that waits for them, and have them checked."""
    waiting = session.client.models.get(model)
    files = _files_of(path, is_addon=waiting.peft_details is not None)
    _send(session, waiting.name, path, files, enable_resumable_upload, quiet)


def get(session: Session, model: ModelName) -> None:
    """Show one model."""
    show_model(session, session.client.models.get(model))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the models of an account; `-a fireworks` shows the library's."""
    show_models(session, list(session.client.models.list(filter=only, order_by=order_by)))


@with_model_options
def update(session: Session, model: ModelName, **options: object) -> None:
    """Change what is said of a model. Another chat template or context length replaces its replicas one by one."""
    fields = read_model_fields(options)
    if not fields:
        raise typer.BadParameter("say what to change, for example --display-name Mine")
    show_model(session, session.client.models.update(model, **fields))


def delete(session: Session, model: ModelName) -> None:
    """Remove a model and its files. Refused while a deployment uses it."""
    session.client.models.delete(model)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {model}")


def download(
    session: Session,
    model: ModelName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where to; made if it is not there.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Bring the files of a model here. What an earlier attempt left is not fetched again."""
    from appliance.cli.model_folder import is_inside

    urls = session.client.models.download_urls(model)
    if strange := [name for name in urls if not is_inside(name)]:
        raise SdkError(f"the server calls a file {strange[0]!r}, which is no name in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    with download_progress(is_quiet=quiet) as on_received:
        for name, url in urls.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            session.client.models.download(url, folder / name, partial(on_received, name))
    if session.is_json:
        return print_json({"files": [str(folder / name) for name in urls]})
    return print_line(f"{len(urls)} files in {folder}")


def prepare(
    session: Session,
    model: ModelName,
    precision: Annotated[str, typer.Option(metavar="P", help="FP8, or one of the model's precisions.")],
) -> None:
    """Have a model made ready for a precision. For FP8 a second checkpoint is made, which takes a while."""
    wanted = precision.upper()
    session.client.models.prepare(model, wanted)
    if session.is_json:
        return print_json({})
    if wanted in session.client.models.get(model).precisions:
        return print_line(f"{model} is ready for {wanted}")
    return print_line(f"{model} is being prepared for {wanted}; hearth get model {model} tells how far it is")


def validate(
    session: Session,
    model: ModelName,
    config_only: Annotated[
        bool, typer.Option("--config-only", help="Only look at config.json, and leave the model as it is.")
    ] = False,
) -> None:
    """Have the files of a model checked, which makes it ready."""
    for warning in session.client.models.validate(model, config_only=config_only):
        print_note(f"Warning: {warning}")
    show_model(session, session.client.models.get(model))


def kind_field(base_model: str | None, is_for_embedding: bool) -> dict[str, object]:
    """What has to be said of a model's kind; the daemon finds out all else."""
    if base_model and is_for_embedding:
        raise typer.BadParameter("a LoRA addon is for what its base model is for: leave out --embedding")
    return {"kind": "EMBEDDING_MODEL"} if is_for_embedding else {}


def _files_of(folder: Path, is_addon: bool) -> list[Path]:
    from appliance.cli.model_folder import files_of  # knows all kinds of models, which no other command needs to

    return files_of(folder, is_addon=is_addon)


def _send(session: Session, name: str, folder: Path, files: list[Path], is_resumable: bool, is_quiet: bool) -> None:
    try:
        with upload_progress(files, is_quiet=is_quiet) as on_sent:
            warnings = session.client.models.upload(name, files, on_sent, folder=folder, is_resumable=is_resumable)
    except SdkError:
        model_id = name.rpartition("/")[2]
        print_note(f"{name} stays UPLOADING: correct the files and repeat, or hearth delete model {model_id}")
        raise
    for warning in warnings:
        print_note(f"Warning: {warning}")
    show_model(session, session.client.models.get(name))


COMMANDS = [
    Command(
        "create",
        "model",
        create,
        (
            "hearth create model my-model ./checkpoint/",
            "hearth create model my-addon ./checkpoint/ --base-model my-model",
            "hearth create model my-reranker ./checkpoint/ --embedding",
        ),
    ),
    Command("upload", "model", upload, ("hearth upload model my-model ./checkpoint/",)),
    Command(
        "get", "model", get, ("hearth get model my-model", "hearth get model accounts/fireworks/models/ember-chat")
    ),
    Command("list", "model", list_all, ("hearth list models", "hearth list models -a fireworks")),
    Command(
        "update",
        "model",
        update,
        (
            'hearth update model my-model --display-name "My model" --public',
            "hearth update model my-model --chat-template ./chat_template.jinja",
        ),
    ),
    Command("delete", "model", delete, ("hearth delete model my-model",)),
    Command("download", "model", download, ("hearth download model my-model ./checkpoint/",)),
    Command("prepare", "model", prepare, ("hearth prepare-model my-model --precision FP8",), also=("prepare-model",)),
    Command("validate", "model", validate, ("hearth validate model my-model",)),
]
