"""A transport without a wire: answers from a script, and remembers what was asked."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

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
        self._answers = [msgspec.json.encode(answer) for answer in answers]

    def call(self, method: str, path: str, kind: type[T], query: Mapping[str, object] = {}, body: object = None) -> T:
        self.calls.append(Call(method, path, dict(query), msgspec.to_builtins(body)))
        return msgspec.json.decode(self._answers.pop(0), type=kind)

    def put_file(self, url: str, file: Path, on_sent: Callable[[int], None]) -> None:
        self.files.append((url, file))
        on_sent(file.stat().st_size)

    def events(self, path: str, body: object) -> Iterator[bytes]:
        raise NotImplementedError
