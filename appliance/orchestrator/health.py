"""Judgements on a worker: is it as good as dead, and is it worth another try. Time is always an argument."""

from collections import deque

import msgspec

from appliance.config import FleetSettings
from appliance.domain import ReplicaState
from runtime.protocol import Heartbeat, LoadProgress


class Vitals(msgspec.Struct):
    """Signs of life of one worker, and when they were seen."""

    heard_at: float
    """Last heartbeat."""
    stepped_at: float
    """Last time the engine was seen to move, or to have nothing to do."""
    progressed_at: float
    """Last time the load was seen to move."""
    heartbeat: Heartbeat | None = None
    progress: LoadProgress | None = None

    @classmethod
    def of_newborn(cls, now: float) -> "Vitals":
        return cls(heard_at=now, stepped_at=now, progressed_at=now)

    def note_heartbeat(self, heartbeat: Heartbeat, now: float) -> None:
        self.heard_at = now
        if not heartbeat.is_busy or self.heartbeat is None or heartbeat.num_steps != self.heartbeat.num_steps:
            self.stepped_at = now
        self.heartbeat = heartbeat

    def note_progress(self, progress: LoadProgress, now: float) -> None:
        """The same said again is no progress."""
        if progress != self.progress:
            self.progressed_at = now
        self.progress = progress

    def note_load_begun(self, now: float) -> None:
        """Of weights, or of a sleeper's waking."""
        self.progressed_at = now
        self.progress = None

    def note_loaded(self, now: float) -> None:
        """A load may keep a worker from speaking; from here on silence counts."""
        self.heard_at = self.stepped_at = now


def find_stall(state: ReplicaState, vitals: Vitals, now: float, settings: FleetSettings) -> str | None:
    """Why a worker in this state is as good as dead; None while it shows the life that the state asks for."""
    if state in (ReplicaState.STARTING, ReplicaState.LOADING):
        if now - vitals.progressed_at > settings.load_stall_timeout_s:
            return f"no progress in {state} for {settings.load_stall_timeout_s:g} s"
    elif now - vitals.heard_at > settings.heartbeat_timeout_s:
        return f"the worker was silent for {settings.heartbeat_timeout_s:g} s"
    elif now - vitals.stepped_at > settings.heartbeat_timeout_s:
        return f"the worker's engine stood still for {settings.heartbeat_timeout_s:g} s with work to do"
    return None


class CrashRecord:
    """The crashes that count, and how long to wait after each."""

    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        self._times: deque[float] = deque()

    def add(self, now: float, jitter: float, idle_service_s: float | None = None) -> float | None:
        """Seconds until the next try, doubled by every crash in the window; None: enough. `jitter` is in [0, 1).

        `idle_service_s`: how long the worker had served, if it was idle when it ended. After `settled_s` of that its
        end is somebody's kill, no sign that the next one will end too: it is replaced soon and counts as no crash.
        """
        if idle_service_s is None or idle_service_s < self._settings.settled_s:
            self._times.append(now)
        while self._times and self._times[0] <= now - self._settings.crash_window_s:
            self._times.popleft()
        if len(self._times) >= self._settings.crashes_max:
            return None
        doublings = max(0, len(self._times) - 1)
        pause_s: float = self._settings.backoff_first_s * 2**doublings * (0.8 + 0.4 * jitter)
        return min(self._settings.backoff_max_s, pause_s)
