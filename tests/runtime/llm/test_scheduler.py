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
        PrefixCache(pool, BLOCK_SIZE, secret=b"secret", root=b"model") if has_cache else None,
        block_size=BLOCK_SIZE,
        max_num_requests=max_num_requests,
        max_batch_tokens=max_batch_tokens,
    )


def add(scheduler: Scheduler, request_id: str, num_tokens: int, max_tokens: int = 100) -> Request:
    """Prompts of different requests share nothing."""
    request = make_request([ord(request_id[0])] * num_tokens, request_id=request_id, max_tokens=max_tokens)
    scheduler.add([request])
    return request


def rows(batch: Batch) -> Rows:
    return [(row.request.request_id, row.num_tokens, row.is_sampled) for row in batch.scheduled]


def step(scheduler: Scheduler) -> Rows:
    """Schedule, pretend to compute, sample token 0."""
    batch = scheduler.schedule()
    for request, num_tokens, is_sampled in batch.scheduled:
        request.num_computed_tokens += num_tokens
        if is_sampled:
            request.output_token_ids.append(0)
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
    assert scheduler.num_waiting == 1


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
    assert (young.status, young.num_preemptions, young.block_ids) == (RequestStatus.WAITING, 1, [])
    assert (old.status, old.num_preemptions) == (RequestStatus.RUNNING, 0)
    scheduler.finish(old)
    # Prompt and output are recomputed like any prompt.
    assert step(scheduler) == [("young", 9, True)]


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
    assert step(scheduler)[0] == ("young", 9, True)


def test_preemption_does_not_count_a_requests_own_blocks_as_cached() -> None:
    scheduler = build(num_blocks=1 + 4, max_batch_tokens=64, has_cache=True)
    old, young = add(scheduler, "old", 4), add(scheduler, "young", 4)
    cache = scheduler._prefix_cache
    assert cache is not None
    while young.num_preemptions == 0:
        step(scheduler)
        cache.publish(young)
    scheduler.finish(old)
    step(scheduler)
    assert young.status is RequestStatus.RUNNING
    assert young.num_cached_tokens == 0


def test_followers_wait_for_the_prompt_and_then_come_before_later_requests() -> None:
    scheduler = build(max_batch_tokens=8, has_cache=True)
    choices = [make_request([1] * 12, request_id="n", index=i) for i in range(3)]
    scheduler.add(choices)
    add(scheduler, "later", 1)
    add(scheduler, "last", 1)
    assert scheduler.num_waiting == 5
    assert step(scheduler) == [("later", 1, True), ("last", 1, True), ("n", 6, False)]
    assert scheduler.num_waiting == 2
    scheduler.release_followers("n")
    assert list(scheduler.waiting) == choices[1:]


def test_choices_with_nothing_to_share_do_not_wait() -> None:
    for has_cache, num_tokens in [(False, 12), (True, BLOCK_SIZE)]:
        scheduler = build(has_cache=has_cache, max_batch_tokens=64)
        scheduler.add([make_request([1] * num_tokens, request_id="n", index=i) for i in range(3)])
        assert step(scheduler) == [("n", num_tokens, True)] * 3


def test_a_decision_changes_nothing_that_deciding_again_would_not_repeat() -> None:
    scheduler = build()
    add(scheduler, "a", 30)
    add(scheduler, "b", 5)
    first = rows(scheduler.schedule())
    assert rows(scheduler.schedule()) == first


def test_of_a_finished_request_the_beginning_stays_cached_longest() -> None:
    scheduler = build(num_blocks=1 + 4, max_batch_tokens=64, has_cache=True)
    cache = scheduler._prefix_cache
    assert cache is not None
    first = add(scheduler, "first", 12, max_tokens=1)
    step(scheduler)
    cache.publish(first)
    scheduler.finish(first)
    add(scheduler, "other", 8, max_tokens=1)
    step(scheduler)
    assert len(cache.match(make_request(first.prompt_token_ids))) == 2
