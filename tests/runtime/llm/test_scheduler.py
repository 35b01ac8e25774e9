import itertools

import pytest

from runtime.llm.backlog import Backlog, BacklogLimits
from runtime.llm.block_pool import BlockPool
from runtime.llm.prefix_cache import PrefixCache
from runtime.llm.request import Batch, Request, RequestStatus
from runtime.llm.scheduler import Scheduler
from tests.fakes.scripted_runner import make_request

BLOCK_SIZE = 4
Rows = list[tuple[str, int, bool]]


def build(
    *, num_blocks: int = 100, max_num_requests: int = 8, max_batch_tokens: int = 16, has_cache: bool = False
) -> Scheduler:
    pool = BlockPool(num_blocks)
    return Scheduler(
        pool,
        PrefixCache(pool, BLOCK_SIZE, secret=b"secret", root=b"model", spans_calls=has_cache),
        Backlog(BacklogLimits(100, 10_000)),
        block_size=BLOCK_SIZE,
        max_num_requests=max_num_requests,
        max_batch_tokens=max_batch_tokens,
    )


def add(scheduler: Scheduler, request_id: str, num_tokens: int, max_tokens: int = 100, *, tenant: str = "") -> Request:
    """Prompts of different requests share nothing."""
    request = make_request([ord(request_id[0])] * num_tokens, request_id=request_id, max_tokens=max_tokens)
    request.tenant = tenant
    scheduler.add([request])
    return request


def rows(batch: Batch) -> Rows:
    return [(row.request.request_id, row.num_tokens, row.is_sampled) for row in batch.scheduled]


def step(scheduler: Scheduler) -> Rows:
    """Schedule, pretend to compute, sample token 0; what an engine does around that."""
    batch = scheduler.schedule()
    for row in batch.scheduled:
        row.request.num_computed_tokens += row.num_tokens
        scheduler._prefix_cache.publish(row.request)
        if row.is_sampled:
            row.request.output_token_ids.append(0)
            scheduler.note_output(row.request)
    scheduler.check_integrity()
    return rows(batch)


def test_decodes_come_first_and_prefill_chunks_fill_the_rest() -> None:
    scheduler = build(max_batch_tokens=9)
    add(scheduler, "a", 3)
    assert step(scheduler) == [("a", 3, True)]
    add(scheduler, "b", 20)
    assert step(scheduler) == [("a", 1, True), ("b", 8, False)]
    assert step(scheduler) == [("a", 1, True), ("b", 8, False)]
    assert step(scheduler) == [("a", 1, True), ("b", 4, True)]
    assert step(scheduler) == [("a", 1, True), ("b", 1, True)]


def test_a_long_prompt_takes_half_while_others_want_to_prefill() -> None:
    scheduler = build(max_batch_tokens=8)
    add(scheduler, "long", 100)
    add(scheduler, "short", 3)
    add(scheduler, "next", 30)
    assert step(scheduler) == [("long", 4, False), ("short", 3, True), ("next", 1, False)]
    assert step(scheduler) == [("short", 1, True), ("long", 4, False), ("next", 3, False)]


def test_what_others_leave_goes_back_to_the_long_prompt() -> None:
    scheduler = build(max_batch_tokens=8)
    add(scheduler, "long", 100)
    add(scheduler, "short", 2)
    assert step(scheduler) == [("long", 6, False), ("short", 2, True)]


def test_a_last_prompt_token_counts_as_a_decode_row() -> None:
    scheduler = build(max_batch_tokens=8)
    add(scheduler, "a", 9)
    add(scheduler, "b", 1)
    assert step(scheduler) == [("b", 1, True), ("a", 7, False)]


def test_every_running_request_decodes_in_every_step() -> None:
    scheduler = build(max_batch_tokens=3)
    for request_id in "abcd":
        add(scheduler, request_id, 1)
    assert step(scheduler) == [(request_id, 1, True) for request_id in "abc"]
    assert step(scheduler) == [(request_id, 1, True) for request_id in "abc"]
    assert scheduler.backlog.total.num_requests == 1


def test_no_more_requests_run_than_allowed() -> None:
    scheduler = build(max_num_requests=2)
    requests = [add(scheduler, request_id, 2) for request_id in "abc"]
    assert step(scheduler) == [("a", 2, True), ("b", 2, True)]
    scheduler.finish(requests[0])
    assert step(scheduler) == [("b", 1, True), ("c", 2, True)]


def test_waiting_is_first_come_first_served_also_when_a_later_one_would_fit() -> None:
    scheduler = build(num_blocks=7)
    first = add(scheduler, "a", 12)
    add(scheduler, "big", 16)
    add(scheduler, "small", 1)
    assert step(scheduler) == [("a", 12, True)]
    assert step(scheduler) == [("a", 1, True)]
    scheduler.finish(first)
    assert step(scheduler) == [("small", 1, True), ("big", 15, False)]


def test_admission_leaves_a_block_for_each_running_request() -> None:
    scheduler = build(num_blocks=1 + 5)
    add(scheduler, "a", 8)
    add(scheduler, "b", 12)
    assert step(scheduler) == [("a", 8, True)]
    scheduler = build(num_blocks=1 + 6)
    add(scheduler, "a", 8)
    add(scheduler, "b", 12)
    assert step(scheduler) == [("a", 8, True), ("b", 8, False)]


def test_a_request_may_fill_the_whole_pool() -> None:
    scheduler = build(num_blocks=1 + 4)
    request = add(scheduler, "a", 16, max_tokens=1)
    assert scheduler.can_ever_fit(request)
    assert not scheduler.can_ever_fit(make_request([0] * 16, max_tokens=2))
    assert step(scheduler) == [("a", 16, True)]


def test_decode_preempts_the_youngest_when_blocks_run_out() -> None:
    scheduler = build(num_blocks=1 + 4, max_batch_tokens=64)
    old = add(scheduler, "old", 4)
    young = add(scheduler, "young", 4)
    assert step(scheduler) == [("old", 4, True), ("young", 4, True)]
    for _ in range(4):
        assert step(scheduler) == [("old", 1, True), ("young", 1, True)]
    # Both have filled two blocks. One of the young one's goes to the old one; what is left does not bring it back.
    assert step(scheduler) == [("old", 1, True)]
    assert (young.status, young.num_preemptions, list(young.block_ids)) == (RequestStatus.WAITING, 1, [])
    assert (old.status, old.num_preemptions) == (RequestStatus.RUNNING, 0)
    scheduler.finish(old)
    # Prompt and output are recomputed like any prompt, but for the block that nobody took.
    assert step(scheduler) == [("young", 5, True)]


def test_preempted_requests_keep_their_place_before_those_who_wait() -> None:
    scheduler = build(num_blocks=1 + 4, max_batch_tokens=64)
    old = add(scheduler, "old", 4)
    add(scheduler, "young", 4)
    step(scheduler)
    add(scheduler, "new", 4)
    for _ in range(5):
        step(scheduler)
    assert [request.request_id for request in scheduler.waiting] == ["young", "new"]
    scheduler.finish(old)
    assert step(scheduler)[0] == ("young", 5, True)


def test_preemption_does_not_count_a_requests_own_blocks_as_cached() -> None:
    scheduler = build(num_blocks=1 + 4, max_batch_tokens=64, has_cache=True)
    old, young = add(scheduler, "old", 4), add(scheduler, "young", 4)
    cache = scheduler._prefix_cache
    while young.num_preemptions == 0:
        step(scheduler)
        cache.publish(young)
    scheduler.finish(old)
    step(scheduler)
    assert young.status is RequestStatus.RUNNING
    assert young.num_cached_tokens == 0


def add_choices(scheduler: Scheduler, num_tokens: int, n: int) -> list[Request]:
    choices = [make_request([1] * num_tokens, request_id="n", index=i) for i in range(n)]
    scheduler.add(choices)
    return choices


@pytest.mark.parametrize("has_cache", [False, True])
def test_followers_wait_for_the_prompt_and_then_come_before_later_requests(has_cache: bool) -> None:
    scheduler = build(max_batch_tokens=8, has_cache=has_cache)
    choices = add_choices(scheduler, 12, 3)
    add(scheduler, "later", 1)
    add(scheduler, "last", 1)
    assert scheduler.backlog.total == (5, 12 + 4 + 4 + 1 + 1)
    assert step(scheduler) == [("later", 1, True), ("last", 1, True), ("n", 6, False)]
    assert scheduler.backlog.total == (2, 4 + 4)
    assert not scheduler.waiting
    add(scheduler, "new", 1)
    assert step(scheduler) == [("later", 1, True), ("last", 1, True), ("new", 1, True), ("n", 5, False)]
    assert step(scheduler)[0] == ("n", 1, True)
    assert list(scheduler.waiting) == choices[1:]
    add(scheduler, "newest", 1)
    assert step(scheduler)[-2:] == [("n", 2, False), ("n", 2, False)]
    assert [choice.num_cached_tokens for choice in choices] == [0, 8, 8]
    assert [request.request_id for request in scheduler.waiting] == ["newest"]


@pytest.mark.parametrize("is_begun", [False, True])
def test_the_next_choice_computes_the_prompt_when_the_first_leaves_before(is_begun: bool) -> None:
    scheduler = build(max_batch_tokens=8)
    choices = add_choices(scheduler, 12, 4)
    if is_begun:
        assert step(scheduler) == [("n", 8, False)]
    for leader, follower in itertools.pairwise(choices[:3]):
        scheduler.finish(leader)
        scheduler.check_integrity()
        assert scheduler.waiting.peek() is follower
        assert len(scheduler.waiting) == 1
    scheduler.finish(choices[3])
    if not is_begun:
        assert step(scheduler) == [("n", 8, False)]
    assert step(scheduler) == [("n", 4, True)]
    scheduler.finish(choices[2])
    assert scheduler.backlog.total == (0, 0)


def test_choices_with_nothing_to_share_do_not_wait() -> None:
    scheduler = build(max_batch_tokens=64)
    add_choices(scheduler, BLOCK_SIZE, 3)
    assert step(scheduler) == [("n", BLOCK_SIZE, True)] * 3


def test_a_decision_changes_nothing_that_deciding_again_would_not_repeat() -> None:
    scheduler = build()
    add(scheduler, "a", 30)
    add(scheduler, "b", 5)
    first = rows(scheduler.schedule())
    assert rows(scheduler.schedule()) == first


def test_of_a_finished_request_the_beginning_stays_cached_longest() -> None:
    scheduler = build(num_blocks=1 + 4, max_batch_tokens=64, has_cache=True)
    cache = scheduler._prefix_cache
    first = add(scheduler, "first", 12, max_tokens=1)
    step(scheduler)
    cache.publish(first)
    scheduler.finish(first)
    add(scheduler, "other", 8, max_tokens=1)
    step(scheduler)
    assert len(cache.match(make_request(first.prompt_token_ids))) == 2


def test_long_prompts_of_one_tenant_do_not_keep_another_from_its_first_token() -> None:
    scheduler = build(num_blocks=2000, max_num_requests=64, max_batch_tokens=64)
    for i in range(8):
        add(scheduler, f"long {i}", 600, tenant="many")
    for _ in range(20):
        step(scheduler)
    short = add(scheduler, "short", 20, tenant="few")
    num_steps = 0
    while not short.output_token_ids:
        step(scheduler)
        num_steps += 1
    # One step for the long prompt that was next when it came, two for its own at a quarter of the budget.
    assert num_steps <= 4


def test_running_prefills_leave_a_quarter_to_whoever_comes_next_and_take_it_when_nobody_does() -> None:
    scheduler = build(num_blocks=1000, max_batch_tokens=16)
    for request_id in "abc":
        add(scheduler, request_id, 100)
    assert step(scheduler) == [("a", 8, False), ("b", 8, False)]
    assert step(scheduler) == [("a", 8, False), ("b", 4, False), ("c", 4, False)]
    assert step(scheduler) == [("a", 8, False), ("b", 8, False)]


def test_a_flood_of_one_tenant_takes_turns_with_another() -> None:
    scheduler = build(num_blocks=1000, max_num_requests=1, max_batch_tokens=64)
    for i in range(20):
        add(scheduler, f"flood {i}", 10, tenant="flood")
    for i in range(3):
        add(scheduler, f"other {i}", 10, tenant="other")
    order: list[str] = []
    while len(order) < 7:
        step(scheduler)
        order.append(scheduler.running[0].request_id)
        scheduler.finish(scheduler.running[0])
    assert order == ["flood 0", "other 0", "flood 1", "other 1", "flood 2", "other 2", "flood 3"]


def test_cached_prompt_tokens_are_not_charged() -> None:
    scheduler = build(has_cache=True, max_num_requests=1, max_batch_tokens=64)
    for request_id in ("first", "fast"):
        request = add(scheduler, request_id, 21, tenant="t")
        step(scheduler)
        scheduler.finish(request)
    assert scheduler.waiting.counters() == {"t": (21 + 2) + (1 + 2)}


def test_a_step_is_scheduled_behind_one_that_is_on_its_way() -> None:
    scheduler = build(max_batch_tokens=8)
    a, b = add(scheduler, "a", 4), add(scheduler, "b", 20)
    first = scheduler.schedule()
    assert rows(first) == [("a", 4, True), ("b", 4, False)]
    second = scheduler.schedule_behind(first)
    assert second is not None
    assert rows(second) == [("a", 1, True), ("b", 7, False)]
    assert [(row.start, row.awaits_token) for row in second.scheduled] == [(4, True), (4, False)]
    assert (a.num_computed_tokens, b.num_computed_tokens) == (0, 0), "requests advance when a step is retired"
    assert len(a.block_ids) == 2
    scheduler.check_integrity()


def test_behind_the_last_step_of_every_request_nothing_is_scheduled() -> None:
    scheduler = build()
    add(scheduler, "a", 4, max_tokens=1)
    assert scheduler.schedule_behind(scheduler.schedule()) is None
    scheduler.check_integrity()


def test_nobody_loses_blocks_that_are_being_written() -> None:
    scheduler = build(num_blocks=1 + 5)
    for request_id in "ab":
        add(scheduler, request_id, 7)
    step(scheduler)
    on_its_way = scheduler.schedule()
    assert scheduler.schedule_behind(on_its_way) is None
    scheduler.check_integrity()
    assert len(scheduler.running) == 2
    assert not scheduler.preempted


def test_blocks_of_who_leaves_meanwhile_stay_until_the_step_has_come_to_its_end() -> None:
    scheduler = build(num_blocks=1 + 4)
    request = add(scheduler, "a", 8)
    first = scheduler.schedule()
    block_ids = list(request.block_ids)
    scheduler.finish(request, is_on_its_way=True)
    scheduler.check_integrity()
    assert not request.block_ids
    assert scheduler._pool.num_free == 4 - len(block_ids)
    scheduler.settle()
    scheduler.check_integrity()
    assert scheduler._pool.num_free == 4
    assert scheduler.schedule_behind(first) is None
