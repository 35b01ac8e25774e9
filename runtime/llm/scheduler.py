"""Who computes how many tokens in the next step, and who owns which KV blocks. Data in, decision out: no clock, no log.

Owns the queue of waiting requests and the list of running ones. A request gets blocks for all its tokens when it is
admitted and one more whenever its decoding fills the last, so only decodes can run out of blocks, and then the
youngest running request gives its blocks back and waits again. Computing, sampling and finishing are the engine's.
"""

from collections import deque

from runtime.llm.block_pool import BlockPool
from runtime.llm.prefix_cache import PrefixCache
from runtime.llm.request import Batch, Request, RequestStatus, ScheduledRequest


class Scheduler:
    """`prefix_cache` None: nothing is ever shared."""

    def __init__(
        self,
        pool: BlockPool,
        prefix_cache: PrefixCache | None,
        *,
        block_size: int,
        max_num_requests: int,
        max_batch_tokens: int,
    ) -> None:
        self.running: list[Request] = []
        """Oldest first."""
        self.waiting: deque[Request] = deque()
        """First come, first served; preempted ones at the head."""
        self._followers: dict[str, list[Request]] = {}
        """By request id: choices held back until the first choice has computed the prompt that they share."""
        self._pool = pool
        self._prefix_cache = prefix_cache
        self._block_size = block_size
        self._max_num_requests = max_num_requests
        self._max_batch_tokens = max_batch_tokens

    @property
    def num_waiting(self) -> int:
        return len(self.waiting) + sum(map(len, self._followers.values()))

    def can_ever_fit(self, request: Request) -> bool:
        """Whether the whole pool could hold the request at its longest; its last token never needs KV."""
        return self._num_blocks(len(request.prompt_token_ids) + request.max_tokens - 1) <= self._pool.num_usable

    def add(self, choices: list[Request]) -> None:
        """Queue the choices of one call."""
        has_full_block = len(choices[0].prompt_token_ids) > self._block_size
        if self._prefix_cache is not None and has_full_block:
            self._prefix_cache.hash_prompt(choices)
            self.waiting.append(choices[0])
            self._followers[choices[0].request_id] = choices[1:]
        else:
            self.waiting.extend(choices)

    def release_followers(self, request_id: str) -> None:
        """The prompt is computed, or never will be by the first choice: let the others come."""
        self.waiting.extendleft(reversed(self._followers.pop(request_id, [])))

    def finish(self, request: Request) -> None:
        """Take a request out, in whatever state it is, with all it holds."""
        if request.status is RequestStatus.RUNNING:
            self.running.remove(request)
            self._free_blocks(request)
            self.release_followers(request.request_id)
        elif request in (followers := self._followers.get(request.request_id, [])):
            followers.remove(request)
        else:
            self.waiting.remove(request)
            self.release_followers(request.request_id)
        request.status = RequestStatus.FINISHED

    def schedule(self) -> Batch:
        """Hand out one step's token budget: (1) decodes, (2) running prefills, oldest first, (3) waiting requests.

        While several want to prefill none gets more than half of what the decodes leave, so that a long prompt delays
        short ones but does not shut them out; (4) what is left over then goes to the oldest.

        Nothing here depends on the step's success: one that raised can be scheduled again.
        """
        self._allocate_for_decodes()
        decodes = [ScheduledRequest(request, 1, True) for request in self.running if request.num_missing_tokens == 1]
        # Never negative: whoever was admitted took at least one token of a budget that others had left.
        budget = self._max_batch_tokens - len(decodes)
        share = max(1, budget // 2)
        chunks: dict[Request, int] = {}
        if len(decodes) < len(self.running):
            for request in self.running:
                if request.num_missing_tokens > 1:
                    chunks[request] = min(request.num_missing_tokens, share, budget)
                    budget -= chunks[request]
        while budget and (admitted := self._admit_next()) is not None:
            chunks[admitted] = min(admitted.num_missing_tokens, share, budget)
            budget -= chunks[admitted]
        for request, num_tokens in chunks.items():
            extra = min(request.num_missing_tokens - num_tokens, budget)
            chunks[request] += extra
            budget -= extra
        return Batch(decodes + _prefill_rows(chunks))

    def check_integrity(self) -> None:
        """Raise AssertionError unless requests, queues and blocks agree; for tests, after every step."""
        held_back = [request for followers in self._followers.values() for request in followers]
        for request in [*self.waiting, *held_back]:
            assert request.status is RequestStatus.WAITING
            assert not request.block_ids
            assert request.num_computed_tokens == 0
        for request in self.running:
            assert request.status is RequestStatus.RUNNING
            assert len(request.block_ids) * self._block_size >= request.num_computed_tokens
        assert len(self.running) <= min(self._max_num_requests, self._max_batch_tokens)
        self._pool.check_integrity(request.block_ids for request in self.running)

    def _allocate_for_decodes(self) -> None:
        """Give each decode the block that its token needs, at the cost of the youngest when none is free."""
        i = 0
        while i < len(self.running):
            request = self.running[i]
            if request.num_computed_tokens == len(request.block_ids) * self._block_size:
                if not self._pool.num_free:
                    self._preempt_youngest()  # perhaps the request itself, never one that was served before it
                    continue
                request.block_ids.append(self._pool.allocate())
            i += 1

    def _preempt_youngest(self) -> None:
        request = self.running.pop()
        self._free_blocks(request)
        request.status = RequestStatus.WAITING
        request.num_preemptions += 1
        self.waiting.appendleft(request)

    def _admit_next(self) -> Request | None:
        """Start the head of the queue if its blocks are there and every running request could still grow by one.

        That margin keeps a preempted request from coming back at once, to be preempted again.
        """
        if not self.waiting or len(self.running) >= self._max_num_requests:
            return None
        request = self.waiting[0]
        cached_block_ids = self._prefix_cache.match(request) if self._prefix_cache is not None else []
        num_new_blocks = self._num_blocks(request.num_tokens) - len(cached_block_ids)
        num_taken = num_new_blocks + sum(map(self._pool.is_free, cached_block_ids))
        if num_taken + len(self.running) > self._pool.num_free:
            return None
        for block_id in cached_block_ids:
            self._pool.share(block_id)
        request.block_ids = cached_block_ids + [self._pool.allocate() for _ in range(num_new_blocks)]
        request.num_published_blocks = len(cached_block_ids)
        request.num_computed_tokens = len(cached_block_ids) * self._block_size
        if request.num_preemptions == 0:
            request.num_cached_tokens = request.num_computed_tokens
        request.status = RequestStatus.RUNNING
        self.running.append(self.waiting.popleft())
        return request

    def _free_blocks(self, request: Request) -> None:
        # The last block first, so that of a forgotten prefix the beginning survives longest.
        for block_id in reversed(request.block_ids):
            self._pool.free(block_id)
        request.block_ids = []
        request.num_computed_tokens = 0

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_size)


def _prefill_rows(chunks: dict[Request, int]) -> list[ScheduledRequest]:
    """A row for each request that got tokens; one whose last token is its only one belongs to the decode rows."""
    rows = [
        ScheduledRequest(request, num_tokens, num_tokens == request.num_missing_tokens)
        for request, num_tokens in chunks.items()
        if num_tokens
    ]
    return sorted(rows, key=lambda row: not (row.num_tokens == 1 and row.is_sampled))
