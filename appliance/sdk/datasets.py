"""Datasets as a client sees them: create, upload, look, take, split. Files are JSON lines, one example each."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from appliance.sdk.errors import SdkError
from appliance.sdk.resources import (
    Empty,
    Resource,
    Status,
    Transport,
    UploadEndpoint,
    collection_path,
    pages,
    resource_path,
    selection,
)

COLLECTION = "datasets"


class DatasetFile(Resource, frozen=True, kw_only=True):
    filename: str
    size_bytes: str = "0"
    sha256: str = ""
    """Once it has arrived."""


class Splitted(Resource, frozen=True, kw_only=True):
    source_dataset_id: str = ""


class Dataset(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    state: str = ""
    status: Status = Status()
    format: str = ""
    example_count: str = "0"
    estimated_token_count: str = "0"
    average_turn_count: float = 0.0
    size_bytes: str = "0"
    splitted: Splitted | None = None
    files: list[DatasetFile] = []
    """In the answer to `get` alone."""
    created_by: str = ""
    create_time: str | None = None
    update_time: str | None = None


class DatasetPage(Resource, frozen=True, kw_only=True):
    datasets: list[Dataset]
    next_page_token: str = ""


class DownloadEndpoint(Resource, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str] = {}


class Split(Resource, frozen=True, kw_only=True):
    chunk_dataset_names: list[str] = []
    chunks_created: int = 0
    total_examples: int = 0


class Preview(Resource, frozen=True, kw_only=True):
    examples: list[dict[str, Any]] = []


class Datasets:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, dataset_id: str, *, display_name: str = "", format: str = "") -> Dataset:
        """In state UPLOADING, waiting for its files. Without a format it has that of its first example."""
        properties: dict[str, object] = {"userUploaded": {}, "displayName": display_name, "format": format}
        body = {"datasetId": dataset_id, "dataset": properties}
        return self._transport.call("POST", collection_path(self._transport, COLLECTION), Dataset, body=body)

    def get(self, dataset: str) -> Dataset:
        return self._transport.call("GET", self._path(dataset), Dataset)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[Dataset]:
        path = collection_path(self._transport, COLLECTION)
        for page in pages(self._transport, path, DatasetPage, selection(filter, order_by)):
            yield from page.datasets

    def update(self, dataset: str, *, display_name: str) -> Dataset:
        return self._transport.call("PATCH", self._path(dataset), Dataset, body={"displayName": display_name})

    def delete(self, dataset: str) -> None:
        self._transport.call("DELETE", self._path(dataset), Empty)

    def upload(self, dataset: str, files: Sequence[Path], on_sent: Callable[[Path, int], None]) -> None:
        """Send the files that it consists of and have every line checked; afterwards the dataset is READY.

        What has arrived before is not sent again. `on_sent` is told of each piece of each file as it leaves.
        """
        here = {file.filename: file for file in self.get(dataset).files}
        sizes = {file.name: str(file.stat().st_size) for file in files}
        endpoint = self._transport.call(
            "POST", f"{self._path(dataset)}:getUploadEndpoint", UploadEndpoint, body={"filenameToSize": sizes}
        )
        for file in files:
            if is_same(here.get(file.name), file):
                on_sent(file, file.stat().st_size)
            else:
                self._transport.put_file(endpoint.filename_to_signed_urls[file.name], file, partial(on_sent, file))
        self._transport.call("POST", f"{self._path(dataset)}:validateUpload", Empty, body={})

    def download_urls(self, dataset: str, *, with_lineage: bool = False) -> dict[str, str]:
        """By file name; with what it was split from, by dataset and file name."""
        query = {"downloadLineage": with_lineage}
        path = f"{self._path(dataset)}:getDownloadEndpoint"
        return self._transport.call("GET", path, DownloadEndpoint, query).filename_to_signed_urls

    def download(self, url: str, file: Path, on_received: Callable[[int], None] = lambda num_bytes: None) -> None:
        """A file from its signed URL; `file` is there once it is whole. Asked for again, it goes on."""
        self._transport.fetch_file(url, file, on_received)

    def preview(self, dataset: str, max_examples: int = 10) -> Sequence[dict[str, Any]]:
        """Its first examples."""
        query = {"maxExamples": max_examples}
        return self._transport.call("GET", f"{self._path(dataset)}:preview", Preview, query).examples

    def split(self, dataset: str, chunk_size: int) -> Split:
        """Into datasets of so many examples each, which are READY at once."""
        body = {"chunkSize": chunk_size}
        return self._transport.call("POST", f"{self._path(dataset)}:splitDataset", Split, body=body)

    def _path(self, dataset: str) -> str:
        return resource_path(self._transport, COLLECTION, dataset)


def is_same(arrived: DatasetFile | None, file: Path) -> bool:
    if arrived is None or not arrived.sha256 or arrived.size_bytes != str(file.stat().st_size):
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == arrived.sha256


def place_in(folder: Path, name: str) -> Path:
    """Where a downloaded file goes: below the folder, whatever a server calls it."""
    words = name.split("/")
    if not all(word and word not in (".", "..") and "\\" not in word and "\0" not in word for word in words):
        raise SdkError(f"the server calls a file {name!r}, which is no name below {folder}")
    return folder.joinpath(*words)
