from runtime.whisper.turns import Turns


def picked(turns: Turns, number: int, ready: set[str] | None = None) -> list[str | None]:
    return [turns.pick(lambda request_id: ready is None or request_id in ready) for _ in range(number)]


def test_tenants_alternate_however_many_requests_each_has() -> None:
    turns = Turns()
    for request_id in ("a1", "a2", "a3"):
        turns.join("a", request_id)
    turns.join("b", "b1")
    assert picked(turns, 6) == ["a1", "b1", "a2", "b1", "a3", "b1"]


def test_a_newcomer_is_level_with_the_one_that_has_had_the_least() -> None:
    turns = Turns()
    turns.join("a", "long")
    picked(turns, 100)
    turns.join("a", "short")
    turns.join("b", "other")
    assert sorted(filter(None, picked(turns, 4))) == ["long", "other", "other", "short"]


def test_who_has_no_window_is_passed_over() -> None:
    turns = Turns()
    turns.join("a", "a1")
    turns.join("b", "b1")
    assert picked(turns, 3, ready={"b1"}) == ["b1", "b1", "b1"]
    assert picked(turns, 1, ready=set()) == [None]


def test_who_left_is_not_picked() -> None:
    turns = Turns()
    turns.join("a", "a1")
    turns.leave("a", "a1")
    turns.leave("a", "a1")
    turns.leave("nobody", "x")
    assert picked(turns, 1) == [None]
    assert turns.num_requests("a") == 0
