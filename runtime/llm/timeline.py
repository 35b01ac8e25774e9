"""How long one request waited and was computed, before and after its first token. Is told the time, has no clock."""

from enum import IntEnum


class Phase(IntEnum):
    PREFILL_QUEUE = 0
    PREFILL = 1
    GENERATION_QUEUE = 2  # waits again after a preemption
    GENERATION = 3


class Timeline:
    """A request that has no token yet goes back to the prefill queue when it is preempted."""

    __slots__ = ("_durations_s", "_since", "phase")

    def __init__(self) -> None:
        self.phase = Phase.PREFILL_QUEUE
        self._since = 0.0
        self._durations_s = [0.0] * len(Phase)

    @property
    def is_waiting(self) -> bool:
        return self.phase in (Phase.PREFILL_QUEUE, Phase.GENERATION_QUEUE)

    def begin(self, now: float) -> None:
        self._since = now

    def start(self, now: float) -> None:
        """It runs, from now on."""
        self._enter(Phase.PREFILL if self.phase is Phase.PREFILL_QUEUE else Phase.GENERATION, now)

    def pause(self, now: float) -> None:
        """It was preempted."""
        self._enter(Phase.PREFILL_QUEUE if self.phase is Phase.PREFILL else Phase.GENERATION_QUEUE, now)

    def note_first_token(self, now: float) -> None:
        self._enter(Phase.GENERATION, now)

    def durations_s(self, now: float) -> list[float]:
        """By phase, the running one up to now."""
        durations = self._durations_s.copy()
        durations[self.phase] += now - self._since
        return durations

    def _enter(self, phase: Phase, now: float) -> None:
        self._durations_s[self.phase] += now - self._since
        self.phase, self._since = phase, now
