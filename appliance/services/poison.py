"""Which requests end the workers that answer them: counted by digests, so that nothing of a request is kept.

Time is always an argument. Bounded in number and in time; what was answered in full meanwhile is above suspicion.
"""

import hashlib

import msgspec

from appliance.config import FleetSettings
from runtime.protocol import AnyTask

DIGESTS_MAX = 4096
"""Beyond it the one that has seen no crash for longest is forgotten."""

_encode = msgspec.msgpack.Encoder().encode


class Poison:
    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        self._crashes: dict[bytes, dict[int, float]] = {}
        """By digest, the latest suspect last: when which worker (by pid) crashed over it. The same content many times
        in flight at one crash has seen one crash."""

    @property
    def is_empty(self) -> bool:
        """Then nobody needs to make a digest."""
        return not self._crashes

    def note_crash(self, digest: bytes, pid: int, now: float) -> int:
        """A worker crashed while it was answering this; returns how many have within `crash_window_s`."""
        crashes = {**self._recent(digest, now), pid: now}
        self._crashes.pop(digest, None)
        self._crashes[digest] = crashes
        if len(self._crashes) > DIGESTS_MAX:
            del self._crashes[next(iter(self._crashes))]
        return len(crashes)

    def note_answer(self, digest: bytes) -> None:
        """It was answered in full: what crashed the workers was something else."""
        self._crashes.pop(digest, None)

    def num_crashes(self, digest: bytes, now: float) -> int:
        return len(self._recent(digest, now))

    def is_refused(self, digest: bytes, now: float) -> bool:
        return self.num_crashes(digest, now) >= self._settings.poison_crashes

    def _recent(self, digest: bytes, now: float) -> dict[int, float]:
        begin = now - self._settings.crash_window_s
        return {pid: at for pid, at in self._crashes.get(digest, {}).items() if at > begin}


def digest_of(deployment_name: str, task: AnyTask) -> bytes:
    """The same for requests that ask the same of the same deployment."""
    content = msgspec.structs.replace(task, request_id="", sent_at=0.0)
    return hashlib.sha256(deployment_name.encode() + b"\0" + _encode(content)).digest()
