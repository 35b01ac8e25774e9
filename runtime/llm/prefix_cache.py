"""Which blocks of a request were computed before, for whoever may share them: full blocks under chained digests.

A block's digest covers its own tokens and, through its parent's, everything before it; the chain starts at the model,
the request's adapter and its cache namespace, so equal text in two namespaces, or under two adapters, never meets.
Never shares a block before its KV is computed, nor one that a request still has to write.
"""

from array import array
from hashlib import blake2b

from runtime.llm.block_pool import BlockPool
from runtime.llm.request import Request

DIGEST_BYTES = 16


class PrefixCache:
    """`secret` keys every digest, so that nobody outside can compute, and aim for, a collision.

    With `spans_calls` off only the choices of one call share, and a request with itself after a preemption.
    """

    def __init__(
        self, pool: BlockPool, block_size: int, *, secret: bytes, root: bytes, spans_calls: bool = True
    ) -> None:
        self._pool = pool
        self._block_size = block_size
        self._spans_calls = spans_calls
        self._secret = secret
        self._root = self._digest(b"", root)

    def hash_prompt(self, choices: list[Request]) -> None:
        """Hash what can be matched of a prompt, once for all choices of a call."""
        first = choices[0]
        self._extend_digests(first, (len(first.prompt_token_ids) - 1) // self._block_size)
        for choice in choices[1:]:
            choice.block_digests = first.block_digests.copy()

    def match(self, request: Request) -> list[int]:
        """The longest run of cached blocks the request begins with.

        The block of its last token is never among them: at least one token must be computed to have logits, and its
        KV must land in a block of the request's own.
        """
        num_full_blocks = _num_tokens_to_match(request) // self._block_size
        self._extend_digests(request, num_full_blocks)
        block_ids = []
        for digest in request.block_digests[:num_full_blocks]:
            block_id = self._pool.find(digest)
            if block_id is None:
                break
            block_ids.append(block_id)
        return block_ids

    def publish(self, request: Request) -> None:
        """Offer the blocks that the last step filled; cheap when it filled none."""
        num_full_blocks = request.num_computed_tokens // self._block_size
        if num_full_blocks > request.num_published_blocks:
            self._extend_digests(request, num_full_blocks)
            for i in range(request.num_published_blocks, num_full_blocks):
                self._pool.publish(request.block_ids[i], request.block_digests[i])
            request.num_published_blocks = num_full_blocks

    def clear(self) -> None:
        """Nothing computed before can be found any more; only while no request runs."""
        self._pool.forget_contents()

    def _extend_digests(self, request: Request, num_blocks: int) -> None:
        digests = request.block_digests
        size = self._block_size
        while len(digests) < num_blocks:
            start = len(digests) * size
            parent = digests[-1] if digests else self._namespace_digest(request)
            tokens = array("i", request.token_ids(start, start + size))
            digests.append(self._digest(parent, tokens.tobytes() + _images_in(request, start, start + size)))

    def _namespace_digest(self, request: Request) -> bytes:
        adapter = b"" if request.adapter is None else request.adapter.digest
        # The length keeps a namespace from looking like an adapter before it.
        digest = self._digest(self._root, bytes([len(adapter)]) + adapter + request.cache_namespace)
        return digest if self._spans_calls else self._digest(digest, request.request_id.encode())

    def _digest(self, parent: bytes, content: bytes) -> bytes:
        return blake2b(parent + content, digest_size=DIGEST_BYTES, key=self._secret).digest()


def _images_in(request: Request, start: int, stop: int) -> bytes:
    """Which images tokens `start` to `stop` stand for, and from where in each: placeholder tokens are all alike."""
    return b"".join(
        image.digest + (start - image.start).to_bytes(8, "little", signed=True)
        for image in request.images
        if image.start < stop and start < image.start + image.num_tokens
    )


def _num_tokens_to_match(request: Request) -> int:
    """A prompt token whose logprob is wanted needs the logits before it. Once there is output, nothing limits."""
    num_tokens = request.num_tokens - 1
    if not request.output_token_ids:
        num_tokens = max(0, num_tokens - request.num_prompt_logprobs)
        if request.cache_max_tokens is not None:
            num_tokens = min(num_tokens, request.cache_max_tokens)
    return num_tokens
