"""The nouns as a client sees them, and what can be asked about each. Knows paths and fields, never sockets.

A resource is named by its id, or by its full name, which may belong to another account.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

import msgspec

from appliance.sdk.listing import Listing, PageT

T = TypeVar("T")


class Transport(Protocol):
    """What `client.py` does for a resource."""

    @property
    def account_id(self) -> str: ...

    @property
    def listing(self) -> Listing: ...

    def call(
        self, method: str, path: str, kind: type[T], query: Mapping[str, object] = ..., body: object = ...
    ) -> T: ...

    def text(self, path: str, query: Mapping[str, object] = ...) -> str: ...

    def put_file(self, url: str, file: Path, on_sent: Callable[[int], None]) -> None: ...

    def put_part(self, url: str, file: Path, start: int, on_sent: Callable[[int], None]) -> "UploadState": ...

    def ask_upload(self, url: str, size: int) -> "UploadState": ...

    def fetch_file(self, url: str, file: Path, on_received: Callable[[int], None]) -> None: ...

    def events(self, path: str, body: object) -> Iterator[bytes]: ...


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel", dict=True):
    """Fields that the server leaves out have their neutral value; fields it adds are ignored.

    What was sent instead is kept beside, where the client was told to: `originals.py`.
    """


class Empty(Resource, frozen=True, kw_only=True):
    pass


class Status(Resource, frozen=True, kw_only=True):
    code: str = "OK"
    message: str = ""


class DeployedModelRef(Resource, frozen=True, kw_only=True):
    name: str
    deployment: str = ""
    state: str = ""
    default: bool = False
    public: bool = False


class UploadState(Resource, frozen=True, kw_only=True):
    """How much of a file the server has; `sha256` is said once it has all."""

    num_bytes: int = 0
    sha256: str = ""


class UploadEndpoint(Resource, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str]


def selection(filter: str, order_by: str) -> dict[str, object]:
    """Of a list, in the language of AIP-160: `state=READY AND displayName:blue`, `createTime desc`."""
    return {"filter": filter, "orderBy": order_by}


def pages(transport: Transport, path: str, kind: type[PageT], query: Mapping[str, object] = {}) -> Iterator[PageT]:
    return transport.listing.pages(lambda asked: transport.call("GET", path, kind, asked), query)


def account_path(account_id: str) -> str:
    return f"/v1/accounts/{quote(account_id, safe='')}"


def collection_path(transport: Transport, collection: str) -> str:
    return f"{account_path(transport.account_id)}/{collection}"


def resource_path(transport: Transport, collection: str, resource: str) -> str:
    match resource.split("/"):
        case ["accounts", account_id, found, resource_id] if found == collection:
            return f"{account_path(account_id)}/{collection}/{quote(resource_id, safe='')}"
    return f"{collection_path(transport, collection)}/{quote(resource, safe='')}"


def camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def given(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields of a body, by wire name; None leaves one to the server, or as it is."""
    return {camel(name): value for name, value in fields.items() if value is not None}
