"""The nouns as a client sees them, and what can be asked about each. Knows paths and fields, never sockets.

A resource is named by its id, or by its full name, which may belong to another account.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

import msgspec

PAGE_SIZE = 200

T = TypeVar("T")


class Transport(Protocol):
    """What `client.py` does for a resource."""

    @property
    def account_id(self) -> str: ...

    def call(
        self, method: str, path: str, kind: type[T], query: Mapping[str, object] = ..., body: object = ...
    ) -> T: ...

    def put_file(self, url: str, file: Path, on_sent: Callable[[int], None]) -> None: ...

    def events(self, path: str, body: object) -> Iterator[bytes]: ...


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Fields that the server leaves out have their neutral value; fields it adds are ignored."""


class Empty(Resource, frozen=True, kw_only=True):
    pass


class Status(Resource, frozen=True, kw_only=True):
    code: str = "OK"
    message: str = ""


class Account(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    email: str = ""
    state: str = ""
    create_time: str | None = None
    update_time: str | None = None


class ApiKey(Resource, frozen=True, kw_only=True):
    key_id: str
    display_name: str = ""
    key: str = ""
    """The secret; only in the answer to create."""
    prefix: str = ""
    create_time: str | None = None
    expire_time: str | None = None


class BaseModelDetails(Resource, frozen=True, kw_only=True):
    checkpoint_format: str = ""
    model_type: str = ""
    parameter_count: str = "0"
    default_precision: str = ""


class PeftDetails(Resource, frozen=True, kw_only=True):
    base_model: str = ""
    r: int = 0
    target_modules: list[str] = []


class DeployedModelRef(Resource, frozen=True, kw_only=True):
    name: str
    deployment: str = ""
    state: str = ""
    default: bool = False
    public: bool = False


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
    supports_serverless: bool = False
    deployed_model_refs: list[DeployedModelRef] = []
    """In the answer to `get` alone."""
    create_time: str | None = None
    update_time: str | None = None


class ModelPage(Resource, frozen=True, kw_only=True):
    models: list[Model]
    next_page_token: str = ""


class ApiKeyPage(Resource, frozen=True, kw_only=True):
    api_keys: list[ApiKey]
    next_page_token: str = ""


class AccountPage(Resource, frozen=True, kw_only=True):
    accounts: list[Account]
    next_page_token: str = ""


class UploadEndpoint(Resource, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str]


class UploadChecks(Resource, frozen=True, kw_only=True):
    warnings: list[str] = []


class Models:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        model_id: str,
        *,
        base_model: str | None = None,
        display_name: str = "",
        description: str = "",
        public: bool = False,
    ) -> Model:
        """A model in state UPLOADING, waiting for the files of a Hugging Face folder.

        With a `base_model` it is a LoRA addon of that, and the folder is as peft saves it.
        """
        properties: dict[str, object] = {"displayName": display_name, "description": description, "public": public}
        if base_model is None:
            properties |= {"kind": "HF_BASE_MODEL", "baseModelDetails": {"checkpointFormat": "HUGGINGFACE"}}
        else:
            properties |= {"kind": "HF_PEFT_ADDON", "peftDetails": {"baseModel": base_model}}
        body = {"modelId": model_id, "model": properties}
        return self._transport.call("POST", collection_path(self._transport, "models"), Model, body=body)

    def get(self, model: str) -> Model:
        return self._transport.call("GET", self._path(model), Model)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[Model]:
        path = collection_path(self._transport, "models")
        for page in pages(self._transport, path, ModelPage, selection(filter, order_by)):
            yield from page.models

    def delete(self, model: str) -> None:
        self._transport.call("DELETE", self._path(model), Empty)

    def upload(self, model: str, files: Sequence[Path], on_sent: Callable[[Path, int], None]) -> Sequence[str]:
        """Send files, have them checked, and return the warnings; afterwards the model is READY.

        `on_sent` is told of each piece of each file as it leaves.
        """
        sizes = {file.name: str(file.stat().st_size) for file in files}
        path = self._path(model)
        endpoint = self._transport.call(
            "POST", f"{path}:getUploadEndpoint", UploadEndpoint, body={"filenameToSize": sizes}
        )
        for file in files:
            url = endpoint.filename_to_signed_urls[file.name]
            self._transport.put_file(url, file, partial(on_sent, file))
        return self._transport.call("GET", f"{path}:validateUpload", UploadChecks).warnings

    def _path(self, model: str) -> str:
        return resource_path(self._transport, "models", model)


class ApiKeys:
    """Of the caller, unless a user is named; `-` lists those of every user."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, *, display_name: str = "", expire_time: str | None = None, user_id: str | None = None) -> ApiKey:
        properties = {"displayName": display_name, "expireTime": expire_time}
        return self._transport.call("POST", self._path(user_id), ApiKey, body={"apiKey": properties})

    def list(self, *, user_id: str | None = None, filter: str = "", order_by: str = "") -> Iterator[ApiKey]:
        for page in pages(self._transport, self._path(user_id), ApiKeyPage, selection(filter, order_by)):
            yield from page.api_keys

    def delete(self, key_id: str, *, user_id: str | None = None) -> None:
        self._transport.call("POST", f"{self._path(user_id)}:delete", Empty, body={"keyId": key_id})

    def _path(self, user_id: str | None) -> str:
        if user_id is None:
            return collection_path(self._transport, "apiKeys")
        return f"{collection_path(self._transport, 'users')}/{quote(user_id, safe='')}/apiKeys"


class Accounts:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, account_id: str) -> Account:
        return self._transport.call("GET", _account_path(account_id), Account)

    def list(self) -> Iterator[Account]:
        for page in pages(self._transport, "/v1/accounts", AccountPage):
            yield from page.accounts


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


PageT = TypeVar("PageT", bound=_Page)


def selection(filter: str, order_by: str) -> dict[str, object]:
    """Of a list, in the language of AIP-160: `state=READY AND displayName:blue`, `createTime desc`."""
    return {"filter": filter, "orderBy": order_by}


def pages(transport: Transport, path: str, kind: type[PageT], query: Mapping[str, object] = {}) -> Iterator[PageT]:
    token = ""
    while True:
        page = transport.call("GET", path, kind, {**query, "pageSize": PAGE_SIZE, "pageToken": token})
        yield page
        token = page.next_page_token
        if not token:
            return


def _account_path(account_id: str) -> str:
    return f"/v1/accounts/{quote(account_id, safe='')}"


def collection_path(transport: Transport, collection: str) -> str:
    return f"{_account_path(transport.account_id)}/{collection}"


def resource_path(transport: Transport, collection: str, resource: str) -> str:
    match resource.split("/"):
        case ["accounts", account_id, found, resource_id] if found == collection:
            return f"{_account_path(account_id)}/{collection}/{quote(resource_id, safe='')}"
    return f"{collection_path(transport, collection)}/{quote(resource, safe='')}"


def camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)
