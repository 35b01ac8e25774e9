"""Models as a client sees them: create, upload, import, change, look, download, delete."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from appliance.sdk.resources import (
    DeployedModelRef,
    Empty,
    Resource,
    Status,
    Transport,
    UploadEndpoint,
    collection_path,
    given,
    pages,
    resource_path,
    selection,
)
from appliance.sdk.uploads import RESUMABLE_BYTES, send_resumable

COLLECTION = "models"


class BaseModelDetails(Resource, frozen=True, kw_only=True):
    checkpoint_format: str = ""
    model_type: str = ""
    parameter_count: str = "0"
    default_precision: str = ""
    huggingface_files: list[str] = []
    """In the answer to `get` alone."""


class PeftDetails(Resource, frozen=True, kw_only=True):
    base_model: str = ""
    r: int = 0
    target_modules: list[str] = []


class ConversationConfig(Resource, frozen=True, kw_only=True):
    style: str = ""
    system: str = ""
    template: str = ""


class Model(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    description: str = ""
    kind: str = ""
    state: str = ""
    status: Status = Status()
    public: bool = False
    context_length: int = 0
    base_model_details: BaseModelDetails | None = None
    peft_details: PeftDetails | None = None
    """Of a LoRA addon."""
    conversation_config: ConversationConfig | None = None
    """In the answer to `get` alone."""
    default_draft_model: str = ""
    default_draft_token_count: int = 0
    github_url: str = ""
    hugging_face_url: str = ""
    imported_from: str = ""
    precisions: list[str] = []
    size_bytes: str = "0"
    supports_image_input: bool = False
    supports_tools: bool = False
    supports_serverless: bool = False
    deployed_model_refs: list[DeployedModelRef] = []
    """In the answer to `get` alone."""
    create_time: str | None = None
    update_time: str | None = None


class ModelPage(Resource, frozen=True, kw_only=True):
    models: list[Model]
    next_page_token: str = ""


class UploadChecks(Resource, frozen=True, kw_only=True):
    warnings: list[str] = []


class DownloadEndpoint(Resource, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str] = {}


class OperationMetadata(Resource, frozen=True, kw_only=True):
    model: str = ""
    source: str = ""
    state: str = ""
    progress_bytes: str = "0"
    total_bytes: str = "0"
    percent: int = 0
    create_time: str | None = None
    update_time: str | None = None


class OperationError(Resource, frozen=True, kw_only=True):
    code: int = 0
    message: str = ""


class Operation(Resource, frozen=True, kw_only=True):
    """An import, under way or past."""

    name: str
    metadata: OperationMetadata = OperationMetadata()
    done: bool = False
    error: OperationError | None = None


class OperationPage(Resource, frozen=True, kw_only=True):
    operations: list[Operation]
    next_page_token: str = ""


class Models:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, model_id: str, *, base_model: str | None = None, **fields: object) -> Model:
        """A model in state UPLOADING, waiting for the files of its folder.

        With a `base_model` it is a LoRA addon of that, and the folder is as peft or diffusers saves it. `fields` are
        those of the API, `display_name="Mine"`; None is not said.
        """
        body = {"modelId": model_id, "model": properties_of_new(base_model, fields)}
        return self._transport.call("POST", collection_path(self._transport, COLLECTION), Model, body=body)

    def get(self, model: str) -> Model:
        return self._transport.call("GET", self._path(model), Model)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[Model]:
        path = collection_path(self._transport, COLLECTION)
        for page in pages(self._transport, path, ModelPage, selection(filter, order_by)):
            yield from page.models

    def update(self, model: str, **fields: object) -> Model:
        """Only what is given changes; an empty text, and a 0, take away."""
        return self._transport.call("PATCH", self._path(model), Model, body=given(fields))

    def delete(self, model: str) -> None:
        self._transport.call("DELETE", self._path(model), Empty)

    def upload(
        self,
        model: str,
        files: Sequence[Path],
        on_sent: Callable[[Path, int], None],
        *,
        folder: Path | None = None,
        is_resumable: bool = True,
    ) -> Sequence[str]:
        """Send files, have them checked, and return the warnings; afterwards the model is READY.

        Files in folders inside `folder` keep those in their names; without it all of them lie side by side.
        `on_sent` is told of each piece of each file as it leaves. Of large files, what arrived before an earlier
        attempt or the connection broke is not sent again.
        """
        named = {file.name if folder is None else file.relative_to(folder).as_posix(): file for file in files}
        large = {file for file in files if is_resumable and file.stat().st_size >= RESUMABLE_BYTES}
        body: dict[str, object] = {"filenameToSize": {name: str(file.stat().st_size) for name, file in named.items()}}
        if large:
            body["enableResumableUpload"] = True
        path = f"{self._path(model)}:getUploadEndpoint"
        urls = self._transport.call("POST", path, UploadEndpoint, body=body).filename_to_signed_urls
        for name, file in named.items():
            if file in large:
                send_resumable(self._transport, urls[name], file, partial(on_sent, file))
            else:
                self._transport.put_file(urls[name], file, partial(on_sent, file))
        return self.validate(model)

    def validate(self, model: str, *, config_only: bool = False) -> Sequence[str]:
        """Have the files checked, which makes the model READY; the warnings."""
        path = f"{self._path(model)}:validateUpload"
        return self._transport.call("GET", path, UploadChecks, {"configOnly": config_only}).warnings

    def prepare(self, model: str, precision: str) -> None:
        self._transport.call("POST", f"{self._path(model)}:prepare", Empty, body={"precision": precision})

    def download_urls(self, model: str) -> dict[str, str]:
        """By file name, good for a day."""
        path = f"{self._path(model)}:getDownloadEndpoint"
        return self._transport.call("GET", path, DownloadEndpoint).filename_to_signed_urls

    def download(self, url: str, file: Path, on_received: Callable[[int], None] = lambda num_bytes: None) -> None:
        """A file from its signed URL, going on with what an earlier attempt left; it is there once it is whole."""
        self._transport.fetch_file(url, file, on_received)

    def start_import(
        self,
        model_id: str,
        *,
        local_path: str | None = None,
        repository: str | None = None,
        revision: str | None = None,
        base_model: str | None = None,
        **fields: object,
    ) -> Operation:
        """Have the daemon bring the files by itself, from a folder of its machine or from the hub."""
        source = given({"local_path": local_path, "hugging_face_url": repository, "revision": revision})
        body = source | {"model": properties_of_new(base_model, fields)}
        return self._transport.call("POST", f"{self._path(model_id)}:import", Operation, body=body)

    def get_operation(self, operation: str) -> Operation:
        return self._transport.call("GET", resource_path(self._transport, "operations", operation), Operation)

    def list_operations(self, *, filter: str = "", order_by: str = "") -> Iterator[Operation]:
        """Imports, the newest first."""
        path = collection_path(self._transport, "operations")
        for page in pages(self._transport, path, OperationPage, selection(filter, order_by)):
            yield from page.operations

    def cancel_operation(self, operation: str) -> None:
        path = resource_path(self._transport, "operations", operation)
        self._transport.call("POST", f"{path}:cancel", Empty, body={})

    def _path(self, model: str) -> str:
        return resource_path(self._transport, COLLECTION, model)


def properties_of_new(base_model: str | None, fields: Mapping[str, object]) -> dict[str, object]:
    """A base model, or an addon of one. Which kind exactly, the daemon finds out, unless `kind` says it."""
    if base_model is None:
        return {"kind": "HF_BASE_MODEL", "baseModelDetails": {"checkpointFormat": "HUGGINGFACE"}} | given(fields)
    return {"kind": "HF_PEFT_ADDON", "peftDetails": {"baseModel": base_model}} | given(fields)
