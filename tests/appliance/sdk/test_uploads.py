import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.sdk.errors import Conflict, Invalid, NoAnswer, SdkError
from appliance.sdk.resources import UploadState
from appliance.sdk.uploads import TRIES_MAX, send_resumable
from tests.appliance.sdk.recording_transport import RecordingTransport

CONTENT = bytes(range(256)) * 8


class Server(RecordingTransport):
    """Keeps what arrives; each of `breaks` is how many bytes the next attempt brings before it fails."""

    def __init__(self, here: bytes = b"", breaks: list[int] | None = None, error: SdkError | None = None) -> None:
        super().__init__()
        self.here = here
        self.breaks = breaks or []
        self.error = error or NoAnswer("gone")
        self.num_sent = 0

    def ask_upload(self, url: str, size: int) -> UploadState:
        digest = hashlib.sha256(self.here).hexdigest() if len(self.here) == size else ""
        return UploadState(num_bytes=len(self.here), sha256=digest)

    def put_part(self, url: str, file: Path, start: int, on_sent: Callable[[int], None]) -> UploadState:
        content = file.read_bytes()[start:]
        if self.breaks:
            content = content[: self.breaks.pop(0)]
            self._take(start, content, on_sent)
            raise self.error
        self._take(start, content, on_sent)
        return self.ask_upload(url, len(self.here))

    def put_file(self, url: str, file: Path, on_sent: Callable[[int], None]) -> None:
        self._take(0, file.read_bytes(), on_sent)

    def _take(self, start: int, content: bytes, on_sent: Callable[[int], None]) -> None:
        self.here = self.here[:start] + content
        self.num_sent += len(content)
        on_sent(len(content))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    return path


def send(server: Server, file: Path) -> int:
    """What was told in all of what had arrived."""
    told: list[int] = []
    send_resumable(server, "http://box/f", file, told.append, sleep=lambda _: None)
    assert server.here == CONTENT
    return sum(told)


def test_a_file_is_sent_once(file: Path) -> None:
    server = Server()
    assert send(server, file) == server.num_sent == len(CONTENT)


@pytest.mark.parametrize("error", [NoAnswer("gone"), Conflict("still being written")])
def test_what_broke_off_goes_on_where_it_ended(file: Path, error: SdkError) -> None:
    server = Server(breaks=[100, 0, 700], error=error)
    assert send(server, file) == server.num_sent == len(CONTENT)


def test_what_is_there_already_is_not_sent(file: Path) -> None:
    for here in (CONTENT[:500], CONTENT):
        server = Server(here)
        assert send(server, file) == len(CONTENT)
        assert server.num_sent == len(CONTENT) - len(here)


def test_what_lies_there_of_another_version_is_replaced(file: Path) -> None:
    server = Server(b"x" * 500)
    assert send(server, file) == len(CONTENT)


def test_after_so_many_tries_the_error_is_told_and_a_refusal_at_once(file: Path) -> None:
    with pytest.raises(NoAnswer):
        send(Server(breaks=[0] * TRIES_MAX), file)
    server = Server(breaks=[0], error=Invalid("no"))
    with pytest.raises(Invalid):
        send(server, file)
