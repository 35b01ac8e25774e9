import random

import pytest

from runtime.embedding.request import EmbeddingRequest, Text
from runtime.embedding.turns import Overflow, Turns, WaitingLimits

ROOMY = WaitingLimits(1000, 1_000_000)


def _request(request_id: str, *lengths: int, tenant: str = "a") -> EmbeddingRequest:
    return EmbeddingRequest(request_id, tenant, [Text([1] * length) for length in lengths])


def _taken(turns: Turns, max_tokens: int) -> list[str]:
    return [row.request.request_id for row in turns.take(max_tokens)]


def test_requests_of_one_tenant_take_turns_text_by_text() -> None:
    turns = Turns(ROOMY)
    turns.add(_request("long", *[10] * 50))
    turns.add(_request("short", 10))
    assert _taken(turns, 40) == ["long", "short", "long", "long"], "nobody waits for a request of many texts"


def test_the_tenant_that_was_served_least_is_next() -> None:
    turns = Turns(ROOMY)
    for index in range(10):
        turns.add(_request(f"many{index}", 10, tenant="many"))
    turns.add(_request("few0", 30, tenant="few"))
    turns.add(_request("few1", 30, tenant="few"))
    assert _taken(turns, 90) == ["many0", "few0", "many1", "many2", "many3"]


def test_a_tenant_that_comes_late_starts_level_and_neither_waits_for_the_other() -> None:
    turns = Turns(ROOMY)
    turns.add(_request("old", *[10] * 100, tenant="old"))
    turns.take(500)
    turns.add(_request("new", *[10] * 100, tenant="new"))
    taken = _taken(turns, 200)
    assert abs(taken.count("old") - taken.count("new")) <= 1


def test_a_text_longer_than_a_step_is_computed_alone() -> None:
    turns = Turns(ROOMY)
    turns.add(_request("a", 500))
    turns.add(_request("b", 5))
    assert _taken(turns, 100) == ["a"]
    assert _taken(turns, 100) == ["b"]
    assert _taken(turns, 100) == []


def test_one_tenant_may_fill_half_of_the_queue() -> None:
    turns = Turns(WaitingLimits(4, 100))
    turns.add(_request("1", 1))
    turns.add(_request("2", 1))
    assert turns.find_overflow(_request("3", 1)) is Overflow.TENANT
    assert turns.find_overflow(_request("3", 1, tenant="b")) is None
    turns.add(_request("3", 30, tenant="b"))
    assert turns.find_overflow(_request("4", 30, tenant="b")) is Overflow.TENANT
    assert turns.find_overflow(_request("4", 69, tenant="c")) is Overflow.QUEUE
    turns.add(_request("4", 1, tenant="c"))
    assert turns.find_overflow(_request("5", 1, tenant="d")) is Overflow.QUEUE


def test_a_request_that_finds_nobody_waiting_is_taken_however_long() -> None:
    assert Turns(WaitingLimits(1, 10)).find_overflow(_request("1", 1000)) is None


@pytest.mark.parametrize("seed", range(5))
def test_every_text_is_taken_once_unless_its_request_is_removed_and_counts_agree(seed: int) -> None:
    generator = random.Random(seed)
    turns, waiting, texts = Turns(ROOMY), {}, set()
    for number in range(300):
        lengths = [generator.randrange(1, 40) for _ in range(generator.randrange(1, 6))]
        request = _request(str(number), *lengths, tenant=generator.choice("abc"))
        turns.add(request)
        waiting[request.request_id] = request
        if generator.random() < 0.5:
            for row in turns.take(generator.randrange(1, 100)):
                place = (row.request.request_id, row.text_index)
                assert place not in texts
                texts.add(place)
        if generator.random() < 0.2:
            turns.remove(waiting.pop(generator.choice(list(waiting))))
        left = [request for request in waiting.values() if request.waiting]
        assert turns.num_requests == len(left)
        assert turns.num_tokens == sum(request.texts[i].num_tokens for request in left for i in request.waiting)
    while rows := turns.take(64):
        texts |= {(row.request.request_id, row.text_index) for row in rows}
    for request in waiting.values():
        assert {(request.request_id, index) for index in range(len(request.texts))} <= texts
