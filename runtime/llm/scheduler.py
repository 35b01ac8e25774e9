"""Who computes how many tokens in the next step, and who owns which KV blocks. Data in, decision out: no clock, no log.

Owns the queue of waiting requests and the list of running ones. A request gets blocks for all its tokens when it is
admitted and one more whenever its decoding fills the last, so only decodes can run out of blocks, and then the
youngest running request gives its blocks back and waits again. Of the choices of a call one computes the prompt and
the others then begin with its full blocks; the rest, less than a block, each computes for itself. A step may be
scheduled while the one before it is still on its way (`look_ahead.py`). Computing, sampling and finishing are the
engine's.
"""

from array import array

from runtime.llm.backlog import Backlog
from runtime.llm.block_pool import BlockPool
from runtime.llm.fair_queue import FairQueue
from runtime.llm.look_ahead import Flight
from runtime.llm.prefix_cache import PrefixCache
from runtime.llm.request import Batch, Request, RequestStatus, ScheduledRequest


class Scheduler:
    def __init__(
        self,
        pool: BlockPool,
        prefix_cache: PrefixCache,
        backlog: Backlog,
        *,
        block_size: int,
        max_num_requests: int,
        max_batch_tokens: int,
    ) -> None:
        self.running: list[Request] = []
        """Oldest first."""
        self.waiting = FairQueue()
        self.backlog = backlog
        """Counts those in `waiting` and those held back."""
        self.preempted: list[Request] = []
        """By the last `schedule`."""
        self._lingering: list[int] = []
        """Blocks of requests that are gone; the step on its way still writes to them."""
        self._followers: dict[str, list[Request]] = {}
        """By request id: choices held back until another one has computed the prompt that they share; never empty."""
        self._pool = pool
        self._prefix_cache = prefix_cache
        self._block_size = block_size
        self._max_num_running = min(max_num_requests, max_batch_tokens)
        """So that a step has a token for each when all decode."""
        self._max_batch_tokens = max_batch_tokens

    def can_ever_fit(self, request: Request) -> bool:
        """Whether the whole pool could hold the request at its longest; its last token never needs KV."""
        return self._num_blocks(len(request.prompt_token_ids) + request.max_tokens - 1) <= self._pool.num_usable

    def add(self, choices: list[Request]) -> None:
        """Queue the choices of one call."""
        self._prefix_cache.hash_prompt(choices)
        first, *others = choices
        num_shared = len(first.block_digests) * self._block_size
        for choice in choices:
            choice.num_queued_tokens = len(choice.prompt_token_ids) - (num_shared if choice is not first else 0)
            self.backlog.enter(choice)
        self.waiting.append(first)
        if num_shared and others:
            self._followers[first.request_id] = others
        else:
            for choice in others:
                self.waiting.append(choice)

    def note_output(self, request: Request) -> None:
        """The engine has appended a token; after the first one the prompt is there for the other choices."""
        self.waiting.charge_output(request.tenant, 1)
        if len(request.output_token_ids) == 1:
            self._release_followers(request.request_id)

    def finish(self, request: Request, *, is_on_its_way: bool = False) -> None:
        """Take a request out, in whatever state it is, with all it holds; blocks in use by a step with `settle`."""
        followers = self._followers.get(request.request_id, [])
        if request.status is RequestStatus.RUNNING:
            self.running.remove(request)
            if is_on_its_way:
                self._lingering += reversed(request.block_ids)
                request.block_ids = []
            else:
                self._free_blocks(request)
            self._replace_leader(request)
        else:
            self.backlog.leave(request)
            if request in followers:
                self._hold_back([follower for follower in followers if follower is not request], request.request_id)
            else:
                self.waiting.remove(request)
                self._replace_leader(request)
        request.status = RequestStatus.FINISHED

    def settle(self) -> None:
        """The step on its way has come to its end."""
        for block_id in self._lingering:
            self._pool.free(block_id)
        self._lingering = []

    def schedule(self) -> Batch:
        """Hand out one step's token budget: decodes first, to prefills what is left.

        Nothing here depends on the step's success: one that raised can be scheduled again.
        """
        self.preempted = []
        self._allocate_for_decodes(Flight(None))
        return self._hand_out(Flight(None))

    def schedule_behind(self, batch: Batch) -> Batch | None:
        """The same while this batch is on its way: what it does for its requests is taken as done.

        None when that one has to be retired first, because nothing can be computed before, or a request has to make
        room: its blocks are being written.
        """
        self.preempted = []
        flight = Flight(batch)
        if not self._allocate_for_decodes(flight):
            return None
        following = self._hand_out(flight)
        return following if following.scheduled else None

    def reserve_draft(self, request: Request, num_tokens: int) -> int:
        """Blocks for tokens beyond the request's own, as long as every running request could still grow by one.

        Returns for how many tokens there is room. Whatever the step does not fill is given back by `trim`.
        """
        room = len(request.block_ids) * self._block_size - request.num_tokens
        while room < num_tokens and self._pool.num_free > len(self.running):
            request.block_ids.append(self._pool.allocate())
            room += self._block_size
        return min(room, num_tokens)

    def trim(self, request: Request) -> None:
        """Give back the blocks that hold none of the request's tokens."""
        while len(request.block_ids) > self._num_blocks(request.num_computed_tokens):
            self._pool.free(request.block_ids.pop())

    def check_integrity(self) -> None:
        """Raise AssertionError unless requests, queues and blocks agree; for tests, after every step."""
        held_back = [request for followers in self._followers.values() for request in followers]
        waiting = [*self.waiting, *held_back]
        for request in waiting:
            assert request.status is RequestStatus.WAITING
            assert not request.block_ids
            assert request.num_computed_tokens == 0
        assert self.backlog.total == (len(waiting), sum(request.num_queued_tokens for request in waiting))
        for request in self.running:
            assert request.status is RequestStatus.RUNNING
            assert len(request.block_ids) * self._block_size >= request.num_computed_tokens
        assert len(self.running) <= self._max_num_running
        self._pool.check_integrity([self._lingering, *(request.block_ids for request in self.running)])

    def _hand_out(self, flight: Flight) -> Batch:
        missing = {request: flight.num_missing_tokens(request) for request in self.running}
        decodes = [flight.next_row(request, 1) for request, num_missing in missing.items() if num_missing == 1]
        budget = self._max_batch_tokens - len(decodes)
        prefills = {request: num_missing for request, num_missing in missing.items() if num_missing > 1}
        return Batch(decodes + _prefill_rows(self._chunk_prefills(prefills, budget), flight))

    def _chunk_prefills(self, missing: dict[Request, int], budget: int) -> dict[Request, int]:
        """Tokens for each: (1) the oldest running one, (2) the others, those that lack least first, (3) waiting ones.

        None gets more than half, and while somebody waits those that run leave a quarter: the oldest always moves on,
        and long prompts delay short ones but never shut them out. (4) What is left over goes to the oldest.
        """
        share = max(1, budget // 2)
        reserved = budget // 4 if self.waiting else 0
        chunks: dict[Request, int] = {}
        prefills = list(missing)
        for request in prefills[:1] + sorted(prefills[1:], key=missing.__getitem__):
            chunks[request] = min(missing[request], share, budget - reserved)
            budget -= chunks[request]
        while budget and (admitted := self._admit_next()) is not None:
            missing[admitted] = admitted.num_missing_tokens
            chunks[admitted] = min(missing[admitted], share, budget)
            budget -= chunks[admitted]
        for request, num_tokens in chunks.items():
            extra = min(missing[request] - num_tokens, budget)
            chunks[request] += extra
            budget -= extra
        return chunks

    def _allocate_for_decodes(self, flight: Flight) -> bool:
        """Give each decode the block that its token needs, at the cost of the youngest when none is free.

        False: there is none, and nobody may lose blocks now.
        """
        i = 0
        while i < len(self.running):
            request = self.running[i]
            num_held = len(request.block_ids) * self._block_size
            if flight.num_computed_tokens(request) == num_held and flight.num_missing_tokens(request):
                if not self._pool.num_free:
                    if flight:
                        return False
                    self._preempt_youngest()  # perhaps the request itself, never one that was served before it
                    continue
                request.block_ids.append(self._pool.allocate())
            i += 1
        return True

    def _preempt_youngest(self) -> None:
        request = self.running.pop()
        self._free_blocks(request)
        request.status = RequestStatus.WAITING
        request.num_preemptions += 1
        self.preempted.append(request)
        self.waiting.give_back(request)
        self.backlog.enter(request)

    def _admit_next(self) -> Request | None:
        """Start the head of the queue if its blocks are there and every running request could still grow by one.

        That margin keeps a preempted request from coming back at once, to be preempted again.
        """
        request = self.waiting.peek()
        if request is None or len(self.running) >= self._max_num_running:
            return None
        cached_block_ids = self._prefix_cache.match(request)
        num_new_blocks = self._num_blocks(request.num_tokens) - len(cached_block_ids)
        num_taken = num_new_blocks + sum(map(self._pool.is_free, cached_block_ids))
        if num_taken + len(self.running) > self._pool.num_free:
            return None
        for block_id in cached_block_ids:
            self._pool.share(block_id)
        request.block_ids = array("i", cached_block_ids + [self._pool.allocate() for _ in range(num_new_blocks)])
        request.num_published_blocks = len(cached_block_ids)
        request.num_computed_tokens = len(cached_block_ids) * self._block_size
        self.waiting.remove(request)
        self.backlog.leave(request)
        if request.num_preemptions == 0:
            request.num_cached_tokens = request.num_computed_tokens
            self.waiting.charge_prompt(request.tenant, request.num_missing_tokens)
        request.status = RequestStatus.RUNNING
        self.running.append(request)
        return request

    def _release_followers(self, request_id: str) -> None:
        """The prompt is computed: let the others come, next of their tenant."""
        followers = self._followers.pop(request_id, [])
        for follower in followers:
            follower.cache_max_tokens = None  # what it takes from its sibling is no matter of the cache
        self.waiting.put_first(followers)

    def _replace_leader(self, gone: Request) -> None:
        """One that was to compute the prompt for others left before: the next of them does it."""
        followers = self._followers.get(gone.request_id)
        if followers:
            leader = followers[0]
            self.backlog.leave(leader)
            leader.num_queued_tokens = len(leader.prompt_token_ids)
            self.backlog.enter(leader)
            self.waiting.put_first([leader])
            self._hold_back(followers[1:], gone.request_id)

    def _hold_back(self, followers: list[Request], request_id: str) -> None:
        if followers:
            self._followers[request_id] = followers
        else:
            del self._followers[request_id]

    def _free_blocks(self, request: Request) -> None:
        # The last block first, so that of a forgotten prefix the beginning survives longest.
        for block_id in reversed(request.block_ids):
            self._pool.free(block_id)
        request.block_ids = array("i")
        request.num_computed_tokens = 0

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_size)


def _prefill_rows(chunks: dict[Request, int], flight: Flight) -> list[ScheduledRequest]:
    """A row for each request that got tokens; one whose last token is its only one belongs to the decode rows."""
    rows = [flight.next_row(request, num_tokens) for request, num_tokens in chunks.items() if num_tokens]
    return sorted(rows, key=lambda row: not (row.num_tokens == 1 and row.is_sampled))
