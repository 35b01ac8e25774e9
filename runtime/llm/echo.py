"""The prompt's last tokens, given back ahead of each choice of a call, with their logprobs if any are asked for.

One choice computes the logprobs; the others' answers wait for them.
"""

from collections.abc import Sequence

from runtime.llm.request import SampledToken
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import TokenLogprob, TopLogprob


class Echo:
    """`num_tokens` may exceed the prompt's length: all of it."""

    def __init__(
        self, vocabulary: Vocabulary, prompt_token_ids: list[int], num_tokens: int, *, has_logprobs: bool
    ) -> None:
        start = max(0, len(prompt_token_ids) - num_tokens)
        self.token_ids = prompt_token_ids[start:]
        self.logprobs: list[TokenLogprob] = []
        self._vocabulary = vocabulary
        self.num_missing = len(self.token_ids) if has_logprobs else 0
        """Logprobs that are still to come from the engine."""
        if self.num_missing and start == 0:
            self.logprobs.append(token_logprob(vocabulary, self.token_ids[0], None, []))  # nothing predicts it
            self.num_missing -= 1

    def tell(self, tokens: Sequence[SampledToken]) -> None:
        self.logprobs += [token_logprob(self._vocabulary, token.token_id, token.logprob, token.top) for token in tokens]
        self.num_missing -= len(tokens)


def token_logprob(
    vocabulary: Vocabulary, token_id: int, logprob: float | None, top: list[tuple[int, float]]
) -> TokenLogprob:
    """As clients are told of a token: by its bytes."""
    token_bytes = vocabulary.token_bytes
    return TokenLogprob(
        token_id=token_id,
        token=token_bytes(token_id),
        logprob=logprob,
        top=[TopLogprob(token_id=i, token=token_bytes(i), logprob=value) for i, value in top],
    )
