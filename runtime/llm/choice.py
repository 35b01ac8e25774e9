"""What one choice has put out so far, on its way to the client: tokens in, Deltas out, until it has finished."""

from typing import Literal, NamedTuple

from msgspec.structs import replace

from runtime.llm.answer import Answer
from runtime.llm.detokenizer import Detokenizer
from runtime.llm.echo import Echo, token_logprob
from runtime.llm.request import TokenOutput
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import Delta, Performance, TokenLogprob, Usage


class TokenizerTimes(NamedTuple):
    """Of one call, in seconds."""

    tokenizer_queue_s: float
    tokenizer_s: float


NO_TOKENIZER_TIMES = TokenizerTimes(0.0, 0.0)


class Choice:
    """`add` as many tokens as there are, then `take_delta` once for all of them, first when all of `echo` is there."""

    def __init__(
        self,
        request_id: str,
        index: int,
        vocabulary: Vocabulary,
        detokenizer: Detokenizer,
        answer: Answer,
        echo: Echo,
        *,
        shows_raw: bool = False,
    ) -> None:
        self.finish_reason: Literal["stop", "length", "tool_calls"] | None = None
        """The only call allowed, a stop string, or the engine's own reason, what came first; no token may follow."""
        self._request_id = request_id
        self._index = index
        self._vocabulary = vocabulary
        self._detokenizer = detokenizer
        self._answer = answer
        self._shows_raw = shows_raw
        self._raw_text = ""
        self._thinking_from: list[int] = []
        """Where in the text each token began that may belong to a thought."""
        self._num_completion_tokens = 0
        self._performance: Performance | None = None
        """As the engine saw it at the last token."""
        self._echo: Echo | None = echo
        """Until the first delta."""
        self._echo_text = detokenizer.echo(echo.token_ids)
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def is_stopped(self) -> bool:
        """Whether the text itself ended it, of which the engine knows nothing."""
        return self._detokenizer.is_stopped or self._answer.is_complete

    def add(self, output: TokenOutput) -> None:
        self._num_completion_tokens += 1
        self._token_ids.append(output.token_id)
        if output.logprob is not None:
            self._logprobs.append(token_logprob(self._vocabulary, output.token_id, output.logprob, output.top))
        if self._answer.may_be_thinking:
            self._thinking_from.append(self._detokenizer.num_characters)
        self.finish_reason = output.finish_reason
        self._performance = output.performance
        text = ""
        if output.finish_reason != "stop" or output.ends_sentence:  # a stop token is no text
            text = self._detokenizer.add(output.token_id)
        if self._detokenizer.is_stopped:
            self.finish_reason = "stop"
        elif output.finish_reason is not None:
            text += self._detokenizer.finish()
        self._read(text)

    def _read(self, text: str) -> None:
        if self._shows_raw:
            self._raw_text += text
        self._answer.add(text)
        if self.finish_reason is not None:
            self._answer.finish()
        if self._answer.is_complete or (self.finish_reason == "stop" and self._answer.num_calls):
            self.finish_reason = "tool_calls"

    def take_delta(
        self, num_prompt_tokens: int, num_cached_tokens: int, tokenizer_times: TokenizerTimes = NO_TOKENIZER_TIMES
    ) -> Delta:
        """All that came since the last time."""
        usage, performance = None, None
        if self.finish_reason is not None:
            performance = self._performance and replace(self._performance, **tokenizer_times._asdict())
            usage = Usage(
                num_prompt_tokens=num_prompt_tokens,
                num_cached_tokens=num_cached_tokens,
                num_completion_tokens=self._num_completion_tokens,
                num_reasoning_tokens=self._num_reasoning_tokens(),
            )
        echo_token_ids: list[int] = []
        is_first = self._echo is not None
        if self._echo is not None:
            echo_token_ids = self._echo.token_ids
            self._answer.text = self._echo_text + self._answer.text
            self._logprobs = self._echo.logprobs + self._logprobs
            self._echo = None
        text, reasoning, calls = self._answer.take()
        delta = Delta(
            request_id=self._request_id,
            index=self._index,
            text=text,
            reasoning=reasoning,
            tool_calls=calls,
            raw_text=self._raw_text,
            token_ids=self._token_ids,
            echo_token_ids=echo_token_ids,
            logprobs=self._logprobs or None,
            finish_reason=self.finish_reason,
            usage=usage,
            performance=performance,
            num_prompt_tokens=num_prompt_tokens if is_first else 0,
            num_cached_tokens=num_cached_tokens if is_first else 0,
        )
        self._raw_text, self._token_ids, self._logprobs = "", [], []
        return delta

    def _num_reasoning_tokens(self) -> int:
        """Tokens that hold anything of the thought or its markers."""
        if self._answer.is_thinking:
            return self._num_completion_tokens
        end = self._answer.num_thought_characters
        return sum(start < end for start in self._thinking_from)
