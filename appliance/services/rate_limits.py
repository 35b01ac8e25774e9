"""How much was taken in the last minute: a window that slides, so that no minute, wherever it begins, holds more than
its limit. Pure but for the time that it is told, which never goes back.
"""

from collections import deque

WINDOW_S = 60.0
GRANULE_S = 0.1
"""What is taken within it leaves the window together, when the last of it is a minute old."""


class Taken:
    """What was taken at about the same time."""

    __slots__ = ("amount", "granule", "is_over")

    def __init__(self, granule: int) -> None:
        self.granule = granule
        self.amount = 0
        self.is_over = False

    @property
    def over_at(self) -> float:
        return (self.granule + 1) * GRANULE_S + WINDOW_S


class RateWindow:
    def __init__(self) -> None:
        self._taken: deque[Taken] = deque()
        self._amount = 0

    def amount(self, now: float) -> int:
        while self._taken and self._taken[0].over_at <= now:
            over = self._taken.popleft()
            over.is_over = True
            self._amount -= over.amount
        return self._amount

    def wait_s(self, wanted: int, limit: int, now: float) -> float:
        """Until so much more fits; 0 when it does now."""
        excess = self.amount(now) + wanted - limit
        if excess <= 0:
            return 0.0
        for taken in self._taken:
            excess -= taken.amount
            if excess <= 0:
                return taken.over_at - now
        return WINDOW_S

    def take(self, amount: int, now: float) -> Taken:
        granule = int(now / GRANULE_S)
        if not self._taken or self._taken[-1].granule < granule:
            self._taken.append(Taken(granule))
        newest = self._taken[-1]
        newest.amount += amount
        self._amount += amount
        return newest

    def correct(self, taken: Taken, by: int, now: float) -> None:
        """It was more or less than had been taken. What was more is taken now; what was less frees room at once."""
        if by > 0:
            self.take(by, now)
        elif not taken.is_over:
            taken.amount += by
            self._amount += by
