"""A transport without a wire: answers from a script, and remembers what was asked."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appliance.sdk.listing import Listing
from appliance.sdk.resources import UploadState

T = TypeVar("T")


class Call(msgspec.Struct):
    method: str
    path: str
    query: dict[str, Any] = {}
    body: Any = None


class RecordingTransport:
    account_id = "acme"

    def __init__(self, *answers: object) -> None:
        self.calls: list[Call] = []
        self.files: list[tuple[str, Path]] = []
        self.listing = Listing()
        self._answers = [msgspec.json.encode(answer) for answer in answers]

    def call(self, method: str, path: str, kind: type[T], query: Mapping[str, object] = {}, body: object = None) -> T:
        self.calls.append(Call(method, path, dict(query), msgspec.to_builtins(body)))
        return msgspec.json.decode(self._answers.pop(0), type=kind)

    def text(self, path: str, query: Mapping[str, object] = {}) -> str:
        self.calls.append(Call("GET", path, dict(query)))
        return self._answers.pop(0).decode()

    def put_file(self, url: str, file: Path, on_sent: Callable[[int], None]) -> None:
        self.files.append((url, file))
        on_sent(file.stat().st_size)

    def put_part(self, url: str, file: Path, start: int, on_sent: Callable[[int], None]) -> UploadState:
        self.put_file(url, file, on_sent)
        return UploadState(num_bytes=file.stat().st_size, sha256="of the whole")

    def ask_upload(self, url: str, size: int) -> UploadState:
        return UploadState()

    def fetch_file(self, url: str, file: Path, on_received: Callable[[int], None]) -> None:
        self.files.append((url, file))
        on_received(0)

    def events(self, path: str, body: object) -> Iterator[bytes]:
        raise NotImplementedError
