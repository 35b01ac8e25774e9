"""A clock that stands still until a test moves it: `FakeClock()` goes wherever a `Callable[[], float]` is asked for."""


class FakeClock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds
