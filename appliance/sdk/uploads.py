"""Sending a file to its signed URL so that a broken connection costs only what was on its way."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from appliance.sdk.errors import Conflict, NoAnswer
from appliance.sdk.resources import Transport, UploadState

RESUMABLE_BYTES = 8 * 1024 * 1024
"""Smaller files are sent in one go: asking how far they are would take as long."""
TRIES_MAX = 6
RETRY_AFTER_S = 1.0
"""Doubled with each try."""


def send_resumable(
    transport: Transport,
    url: str,
    file: Path,
    on_sent: Callable[[int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Go on where an earlier attempt ended, and where this one breaks."""
    progress = _Progress(on_sent)
    state = _send_rest(transport, url, file, progress, sleep)
    if state.sha256 != _sha256(file):  # what lay there was of another version of the file
        progress.reset_to(0)
        transport.put_file(url, file, progress.sent)


def _send_rest(
    transport: Transport, url: str, file: Path, progress: "_Progress", sleep: Callable[[float], None]
) -> UploadState:
    wait_s = RETRY_AFTER_S
    for tries_left in reversed(range(TRIES_MAX)):
        try:
            state = transport.ask_upload(url, file.stat().st_size)
            progress.reset_to(state.num_bytes)
            return state if state.sha256 else transport.put_part(url, file, state.num_bytes, progress.sent)
        except (NoAnswer, Conflict):  # a conflict: the server has not yet seen that the connection broke
            if not tries_left:
                raise
        sleep(wait_s)
        wait_s *= 2
    raise AssertionError("the last try returns or raises")


class _Progress:
    """What was told of pieces is taken back when they have to be sent again."""

    def __init__(self, on_sent: Callable[[int], None]) -> None:
        self._on_sent = on_sent
        self._num_bytes = 0

    def sent(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        self._on_sent(num_bytes)

    def reset_to(self, num_bytes: int) -> None:
        self.sent(num_bytes - self._num_bytes)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
