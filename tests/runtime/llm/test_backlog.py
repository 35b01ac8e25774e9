import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.llm.backlog import Backlog, BacklogLimits, Overflow
from runtime.llm.request import Request
from tests.fakes.scripted_runner import make_request


def call(num_tokens: int, *, n: int = 1, tenant: str = "") -> list[Request]:
    choices = [make_request([0] * num_tokens, index=i) for i in range(n)]
    for choice in choices:
        choice.tenant = tenant
        choice.num_queued_tokens = 0 if choice.index else num_tokens
    return choices


def enter(backlog: Backlog, choices: list[Request]) -> None:
    for choice in choices:
        backlog.enter(choice)


@pytest.mark.parametrize(
    ("own", "others", "added", "overflow"),
    [
        ((0, 0), (0, 0), (1, 1), None),
        ((4, 4), (0, 0), (1, 1), None),
        ((5, 5), (0, 0), (1, 1), Overflow.TENANT),
        ((1, 40), (0, 0), (1, 10), None),
        ((1, 40), (0, 0), (1, 11), Overflow.TENANT),
        ((0, 0), (5, 5), (5, 1), None),
        ((0, 0), (5, 5), (6, 1), Overflow.QUEUE),
        ((0, 0), (1, 50), (1, 50), None),
        ((0, 0), (1, 50), (1, 51), Overflow.QUEUE),
        ((2, 2), (5, 90), (1, 9), Overflow.QUEUE),
        ((0, 0), (0, 0), (1, 500), None),
        ((0, 0), (0, 0), (10, 5), None),
        ((0, 0), (0, 0), (11, 5), Overflow.QUEUE),
    ],
)
def test_bounds_of_the_queue_and_of_a_tenants_half(
    own: tuple[int, int], others: tuple[int, int], added: tuple[int, int], overflow: Overflow | None
) -> None:
    """Pairs are choices and prompt tokens; the queue holds 10 and 100."""
    backlog = Backlog(BacklogLimits(10, 100))
    for tenant, (n, num_tokens) in [("own", own), ("other", others)]:
        if n:
            enter(backlog, call(num_tokens, n=n, tenant=tenant))
    n, num_tokens = added
    assert backlog.find_overflow(call(num_tokens, n=n, tenant="own")) is overflow


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(1, 3)), max_size=20), st.data())
def test_it_counts_what_entered_and_has_not_left(calls: list[tuple[str, int, int]], data: st.DataObject) -> None:
    backlog = Backlog(BacklogLimits(1000, 1000))
    waiting: list[Request] = []
    for tenant, num_tokens, n in calls:
        choices = call(num_tokens, n=n, tenant=tenant)
        enter(backlog, choices)
        waiting += choices
        if data.draw(st.booleans()):
            backlog.leave(waiting.pop(data.draw(st.integers(0, len(waiting) - 1))))
        for name in "abc":
            own = [request.num_queued_tokens for request in waiting if request.tenant == name]
            assert backlog.of(name) == (len(own), sum(own))
        assert backlog.total == (len(waiting), sum(request.num_queued_tokens for request in waiting))
    for request in waiting:
        backlog.leave(request)
    assert backlog.total == (0, 0)
    assert not backlog._by_tenant, "nothing is remembered of who has left"
