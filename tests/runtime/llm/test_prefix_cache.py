from typing import NamedTuple

import pytest

from runtime.llm.block_pool import BlockPool
from runtime.llm.prefix_cache import DIGEST_BYTES, PrefixCache
from runtime.llm.request import Request
from tests.fakes.scripted_runner import make_request

BLOCK_SIZE = 4


def compute(pool: BlockPool, cache: PrefixCache, request: Request, num_tokens: int) -> None:
    """What an engine does around a step, without one."""
    while len(request.block_ids) * BLOCK_SIZE < num_tokens:
        request.block_ids.append(pool.allocate())
    request.num_computed_tokens = num_tokens
    cache.publish(request)


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(32)


@pytest.fixture
def cache(pool: BlockPool) -> PrefixCache:
    return PrefixCache(pool, BLOCK_SIZE, secret=b"secret", root=b"model")


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(1, 0), (4, 0), (5, 1), (8, 1), (9, 2), (12, 2), (13, 3)])
def test_a_match_leaves_at_least_one_token_to_compute(
    pool: BlockPool, cache: PrefixCache, num_tokens: int, num_blocks: int
) -> None:
    computed = make_request(list(range(20)))
    compute(pool, cache, computed, 20)
    assert cache.match(make_request(list(range(num_tokens)))) == list(computed.block_ids[:num_blocks])


def test_only_computed_full_blocks_are_published(pool: BlockPool, cache: PrefixCache) -> None:
    request = make_request(list(range(20)))
    for num_computed_tokens, num_blocks in [(3, 0), (4, 1), (11, 2), (12, 3), (20, 5)]:
        compute(pool, cache, request, num_computed_tokens)
        assert cache.match(make_request(list(range(40)))) == list(request.block_ids[:num_blocks])


def test_a_difference_anywhere_before_separates_all_that_follows(pool: BlockPool, cache: PrefixCache) -> None:
    first = make_request([0, *range(1, 12), 99])
    compute(pool, cache, first, 13)
    assert cache.match(make_request([50, *range(1, 12), 99])) == []
    assert cache.match(make_request([*range(6), 50, *range(7, 12), 99])) == list(first.block_ids[:1])


def test_namespaces_never_meet(pool: BlockPool, cache: PrefixCache) -> None:
    prompt = list(range(9))
    compute(pool, cache, make_request(prompt, cache_namespace=b"a"), 9)
    assert cache.match(make_request(prompt, cache_namespace=b"b")) == []
    assert cache.match(make_request(prompt)) == []
    assert len(cache.match(make_request(prompt, cache_namespace=b"a"))) == 2


class _Adapter(NamedTuple):
    digest: bytes


def test_adapters_never_meet_under_any_name(pool: BlockPool, cache: PrefixCache) -> None:
    prompt = list(range(9))
    requests = []
    # A namespace that reads like an adapter is none.
    for digest, namespace in [(b"a" * 32, b""), (b"b" * 32, b""), (b"a" * 32, b"n"), (None, b"a" * 32), (None, b"")]:
        request = make_request(prompt, cache_namespace=namespace)
        request.adapter = None if digest is None else _Adapter(digest)
        assert cache.match(request) == []
        compute(pool, cache, request, 9)
        requests.append(request)
    again = make_request(prompt, cache_namespace=b"n")
    again.adapter = _Adapter(b"a" * 32)
    assert cache.match(again) == list(requests[2].block_ids[:2])


def test_digests_depend_on_secret_and_model(pool: BlockPool) -> None:
    digests = set()
    for secret, root in [(b"s", b"m"), (b"t", b"m"), (b"s", b"n")]:
        request = make_request(list(range(5)))
        PrefixCache(pool, BLOCK_SIZE, secret=secret, root=root).hash_prompt([request])
        assert [len(digest) for digest in request.block_digests] == [DIGEST_BYTES]
        digests.update(request.block_digests)
    assert len(digests) == 3


def test_choices_are_hashed_once_and_extend_their_own_copies(pool: BlockPool, cache: PrefixCache) -> None:
    choices = [make_request(list(range(9)), index=i) for i in range(2)]
    cache.hash_prompt(choices)
    assert choices[0].block_digests == choices[1].block_digests
    for choice in choices:
        choice.output_token_ids = [choice.index] * 4
        compute(pool, cache, choice, 12)
    assert choices[0].block_digests[:2] == choices[1].block_digests[:2]
    assert choices[0].block_digests[2] != choices[1].block_digests[2]


def test_a_match_ends_at_the_first_block_that_was_reused(pool: BlockPool, cache: PrefixCache) -> None:
    request = make_request(list(range(13)))
    compute(pool, cache, request, 13)
    for block_id in reversed(request.block_ids):
        pool.free(block_id)
    taken = []
    while (block_id := pool.allocate()) != request.block_ids[1]:
        taken.append(block_id)
    assert request.block_ids[2] in taken, "of a freed prefix the end goes first"
    assert cache.match(make_request(list(range(13)))) == list(request.block_ids[:1])


@pytest.mark.parametrize(
    ("cache_max_tokens", "num_prompt_logprobs", "num_blocks"),
    [(None, 0, 3), (0, 0, 0), (3, 0, 0), (4, 0, 1), (7, 0, 1), (100, 0, 3), (None, 3, 2), (None, 12, 0), (5, 3, 1)],
)
def test_a_request_takes_no_more_than_it_may_and_leaves_the_tokens_whose_logprobs_it_wants(
    pool: BlockPool, cache: PrefixCache, cache_max_tokens: int | None, num_prompt_logprobs: int, num_blocks: int
) -> None:
    computed = make_request(list(range(13)))
    compute(pool, cache, computed, 13)
    request = make_request(computed.prompt_token_ids)
    request.cache_max_tokens, request.num_prompt_logprobs = cache_max_tokens, num_prompt_logprobs
    assert cache.match(request) == list(computed.block_ids[:num_blocks])
    request.output_token_ids.append(0)
    assert cache.match(request) == list(computed.block_ids[:3]), "what it computed itself, after a preemption"


def test_where_calls_share_nothing_choices_of_one_do(pool: BlockPool) -> None:
    cache = PrefixCache(pool, BLOCK_SIZE, secret=b"secret", root=b"model", spans_calls=False)
    choices = [make_request(list(range(9)), request_id="one", index=i) for i in range(2)]
    cache.hash_prompt(choices)
    compute(pool, cache, choices[0], 9)
    assert cache.match(choices[1]) == list(choices[0].block_ids[:2])
    assert cache.match(make_request(list(range(9)), request_id="other")) == []
