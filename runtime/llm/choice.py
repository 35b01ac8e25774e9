"""What one choice has put out so far, on its way to the client: tokens in, Deltas out, until it has finished."""

from runtime.llm.detokenizer import Detokenizer
from runtime.llm.request import FinishReason, TokenOutput
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import Delta, TokenLogprob, TopLogprob, Usage


class Choice:
    """`add` as many tokens as there are, then `take_delta` once for all of them."""

    def __init__(self, request_id: str, index: int, vocabulary: Vocabulary, detokenizer: Detokenizer) -> None:
        self.finish_reason: FinishReason | None = None
        """A stop string, or the engine's own reason, whichever came first; no token may follow."""
        self._request_id = request_id
        self._index = index
        self._vocabulary = vocabulary
        self._detokenizer = detokenizer
        self._num_completion_tokens = 0
        self._text = ""
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string ended it, of which the engine knows nothing."""
        return self._detokenizer.is_stopped

    def add(self, output: TokenOutput) -> None:
        self._num_completion_tokens += 1
        self._token_ids.append(output.token_id)
        if output.logprob is not None:
            self._logprobs.append(self._logprob(output, output.logprob))
        self.finish_reason = output.finish_reason
        if output.finish_reason != "stop":  # the token that says "stop" is no text
            self._text += self._detokenizer.add(output.token_id)
        if self._detokenizer.is_stopped:
            self.finish_reason = "stop"
        elif output.finish_reason is not None:
            self._text += self._detokenizer.finish()

    def take_delta(self, num_prompt_tokens: int, num_cached_tokens: int) -> Delta:
        """All that came since the last time."""
        usage = None
        if self.finish_reason is not None:
            usage = Usage(
                num_prompt_tokens=num_prompt_tokens,
                num_cached_tokens=num_cached_tokens,
                num_completion_tokens=self._num_completion_tokens,
            )
        delta = Delta(
            request_id=self._request_id,
            index=self._index,
            text=self._text,
            token_ids=self._token_ids,
            logprobs=self._logprobs or None,
            finish_reason=self.finish_reason,
            usage=usage,
        )
        self._text, self._token_ids, self._logprobs = "", [], []
        return delta

    def _logprob(self, output: TokenOutput, logprob: float) -> TokenLogprob:
        token_bytes = self._vocabulary.token_bytes
        return TokenLogprob(
            token_id=output.token_id,
            token=token_bytes(output.token_id),
            logprob=logprob,
            top=[TopLogprob(token_id=i, token=token_bytes(i), logprob=value) for i, value in output.top],
        )
