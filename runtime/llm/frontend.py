"""The socket thread's half of the LLM engine: a Submit becomes a Generation, step outputs become Deltas.

Nothing of a call reaches the engine unchecked. Remembers each call until its last choice has finished or the client
has left; never touches the engine or the device.
"""

import logging
import secrets
from concurrent.futures import Future
from hashlib import blake2b
from pathlib import Path
from time import monotonic

import msgspec

from models.info import ModelInfo
from models.rendering import Renderer
from runtime.adapter_shelf import AdapterShelf, no_adapters
from runtime.engine import Frontend, Rendered, RequestRefused
from runtime.llm.answer import AnswerReading
from runtime.llm.choice import Choice, TokenizerTimes
from runtime.llm.constraints import AnswerConstraint, Constraints
from runtime.llm.detokenizer import Detokenizer
from runtime.llm.dialect import Dialect
from runtime.llm.echo import Echo
from runtime.llm.engine import LlmOutput
from runtime.llm.grammar.compiler import GrammarCompiler
from runtime.llm.limits import check_echo, check_limits, normalise
from runtime.llm.predictions import predicted_tokens
from runtime.llm.prompts import EncodedPrompt, Prompts
from runtime.llm.request import Adapter, Generation, Request, RequestFailed
from runtime.llm.sampling.token_counts import TokenCounts
from runtime.llm.vocabulary import Vocabulary
from runtime.message import FailureCode
from runtime.protocol import Failed, LoadAdapter, PromptOutput, Submit
from runtime.submission import ChatPrompt

logger = logging.getLogger(__name__)


class Call:
    """One client call between its Submit and its last Delta."""

    def __init__(
        self, choices: dict[int, Choice], echo: Echo, num_prompt_tokens: int, tokenizer_times: TokenizerTimes
    ) -> None:
        self.choices = choices
        """Unfinished ones, by index."""
        self.echo = echo
        self.changed: dict[int, Choice] = {}
        """Those that gained tokens since their last delta."""
        self.num_prompt_tokens = num_prompt_tokens
        self.tokenizer_times = tokenizer_times
        self.shown_prompt: PromptOutput | None = None
        """Until it is shown; None also where nobody asked for it."""
        self.num_cached_tokens: int | None = None
        """Of the choice that ran first. Later ones find the prompt in the cache because of it: no news to a client."""


class LlmFrontend(Frontend[Submit, Generation, LlmOutput]):
    """`kv_capacity_tokens`: tokens whose KV the whole pool can hold. `renderer`: as of `Prompts`."""

    task_types = (Submit,)

    def __init__(
        self,
        model_dir: Path,
        info: ModelInfo,
        max_context_length: int,
        kv_capacity_tokens: int,
        adapters: AdapterShelf | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self._vocab_size = info.vocab_size
        self._end_token_ids = frozenset(info.eos_token_ids)
        # The last token of a request is returned without its KV ever being computed.
        self._max_context_length = min(max_context_length, kv_capacity_tokens + 1)
        self._vocabulary = Vocabulary.load(model_dir)
        self._dialect = Dialect.load(model_dir, self._vocabulary)
        self._prompts = Prompts(
            model_dir, info, self._vocabulary, self._dialect, self._max_context_length - 1, renderer
        )
        self._compiler = GrammarCompiler(model_dir, info.vocab_size, info.eos_token_ids)
        self._constraints = Constraints(self._compiler, self._dialect, self._end_token_ids)
        self._adapters = adapters or no_adapters()
        self._calls: dict[str, Call] = {}

    def prepare(self, submit: Submit) -> Generation:
        began_at = monotonic()
        check_limits(submit, self._vocab_size)
        if submit.request_id in self._calls:
            raise RequestRefused(FailureCode.INVALID, "this request id is in use")
        adapter = self._adapters.find(submit.adapter) if submit.adapter else None
        constraint = self._constraints.compile(submit)
        encoded = self._prompts.encode(submit.prompt)
        prompt_token_ids = encoded.token_ids
        echo = self._echo(submit, prompt_token_ids)
        generation = Generation(submit.request_id, self._requests(submit, encoded, echo, constraint, adapter))
        # A chat answer is a text of its own; a completion continues its prompt's text, if there is any.
        hidden_token_ids = prompt_token_ids[: len(prompt_token_ids) - len(echo.token_ids)]
        is_own_text = isinstance(submit.prompt, ChatPrompt) and not echo.token_ids
        starts_text = is_own_text or not any(map(self._vocabulary.text_bytes, hidden_token_ids))
        reading = AnswerReading(self._dialect, submit.prompt, encoded)
        choices = {}
        for index in range(submit.num_choices):
            detokenizer = Detokenizer(
                self._vocabulary, submit.stop, starts_text=starts_text, shown=reading.shown_token_ids
            )
            choices[index] = Choice(
                submit.request_id,
                index,
                self._vocabulary,
                detokenizer,
                reading.begin(f"{submit.request_id}/{index}"),
                echo,
                shows_raw=submit.shows_prompt,
            )
        queue_s = max(0.0, began_at - submit.sent_at) if submit.sent_at else 0.0
        tokenizer_times = TokenizerTimes(queue_s, monotonic() - began_at)
        call = self._calls[submit.request_id] = Call(choices, echo, len(prompt_token_ids), tokenizer_times)
        if submit.shows_prompt:
            text = self._vocabulary.whole_text(prompt_token_ids)
            call.shown_prompt = PromptOutput(text=text, token_ids=prompt_token_ids)
        return generation

    def render(self, outputs: list[LlmOutput]) -> Rendered:
        rendered = Rendered(deltas=[], failures=[], finished=[])
        by_request: dict[str, list[LlmOutput]] = {}
        for output in outputs:
            by_request.setdefault(output.request_id, []).append(output)
        for request_id, own_outputs in by_request.items():
            call = self._calls.get(request_id)
            if call is None:
                continue
            try:
                self._render_call(request_id, call, own_outputs, rendered)
            except Exception:
                logger.exception("rendering request %s failed", request_id)
                rendered.finished.extend((request_id, index) for index in call.choices)
                self._fail(request_id, rendered)
        return rendered

    def forget(self, request_id: str) -> None:
        self._calls.pop(request_id, None)

    def load_adapter(self, load: LoadAdapter) -> Future[None]:
        return self._adapters.load(load)

    def unload_adapter(self, adapter: str) -> None:
        self._adapters.unload(adapter)

    def close(self) -> None:
        self._adapters.close()
        self._compiler.close()
        self._prompts.close()

    def _echo(self, submit: Submit, prompt_token_ids: list[int]) -> Echo:
        num_tokens = min(submit.num_echoed_tokens or 0, len(prompt_token_ids))
        check_echo(submit, num_tokens)
        return Echo(self._vocabulary, prompt_token_ids, num_tokens, has_logprobs=submit.num_logprobs is not None)

    def _max_tokens(self, submit: Submit, num_prompt_tokens: int) -> int:
        num_fitting = self._max_context_length - num_prompt_tokens
        if submit.max_tokens is None:
            return num_fitting
        if submit.is_overflow_refused and submit.max_tokens > num_fitting:
            message = (
                f"max_tokens: the prompt's {num_prompt_tokens} tokens and {submit.max_tokens} of the answer exceed the "
                f"context of {self._max_context_length} tokens"
            )
            raise RequestRefused(FailureCode.INVALID, message, "max_tokens")
        return min(num_fitting, submit.max_tokens)

    def _requests(
        self,
        submit: Submit,
        prompt: EncodedPrompt,
        echo: Echo,
        constraint: AnswerConstraint,
        adapter: Adapter | None,
    ) -> list[Request]:
        prompt_token_ids = prompt.token_ids
        max_tokens = self._max_tokens(submit, len(prompt_token_ids))
        seed = secrets.randbits(63) if submit.sampling.seed is None else submit.sampling.seed
        sampling = normalise(submit.sampling, self._vocab_size)
        token_counts = TokenCounts.of(sampling, prompt_token_ids)
        end_token_ids = frozenset() if submit.ignore_eos else self._end_token_ids
        prediction = predicted_tokens(submit.prediction, self._vocabulary, self._vocab_size, self._max_context_length)
        return [
            Request(
                request_id=submit.request_id,
                index=index,
                prompt_token_ids=prompt_token_ids,
                sampling=sampling,
                token_counts=token_counts and token_counts.fork(),
                seed=choice_seed(seed, index),
                max_tokens=max_tokens,
                stop_token_ids=end_token_ids.union(submit.stop_token_ids),
                num_logprobs=submit.num_logprobs,
                num_prompt_logprobs=echo.num_missing if index == 0 else 0,
                constraint=constraint.make(is_thinking=prompt.is_thinking),
                prediction=prediction,
                images=prompt.images,
                adapter=adapter,
                cache_namespace=submit.cache_namespace.encode(),
                cache_max_tokens=submit.cache_max_tokens,
                tenant=submit.tenant,
                is_watched=bool(submit.stop) or (isinstance(submit.prompt, ChatPrompt) and bool(submit.prompt.tools)),
            )
            for index in range(submit.num_choices)
        ]

    def _render_call(self, request_id: str, call: Call, outputs: list[LlmOutput], rendered: Rendered) -> None:
        for output in outputs:
            if isinstance(output, RequestFailed):
                self._fail(request_id, rendered)
                return
            choice = call.choices.get(output.index)
            if choice is None or choice.finish_reason is not None:
                continue  # computed before the engine heard of the stop string
            if call.num_cached_tokens is None:
                call.num_cached_tokens = output.num_cached_tokens
            call.echo.tell(output.prompt_logprobs)
            choice.add(output)
            call.changed[output.index] = choice
        if call.echo.num_missing:
            return  # it leads every choice
        changed, call.changed = call.changed, {}
        for index, choice in changed.items():
            delta = choice.take_delta(call.num_prompt_tokens, call.num_cached_tokens or 0, call.tokenizer_times)
            if index == 0 and call.shown_prompt is not None:
                delta = msgspec.structs.replace(delta, prompt=call.shown_prompt)
                call.shown_prompt = None
            rendered.deltas.append(delta)
            if choice.finish_reason is not None:
                del call.choices[index]
                if choice.is_stopped:
                    rendered.finished.append((request_id, index))
        if not call.choices:
            self.forget(request_id)

    def _fail(self, request_id: str, rendered: Rendered) -> None:
        self.forget(request_id)
        failure = Failed(request_id=request_id, code=FailureCode.INTERNAL, message="the request failed in the engine")
        rendered.failures.append(failure)


def choice_seed(seed: int, index: int) -> int:
    """A 64-bit seed for one choice: BLAKE2b over seed and index as little-endian integers of 16 and 4 bytes.

    Stable over versions and machines, so that a seed that a client keeps goes on giving the same answer.
    """
    data = seed.to_bytes(16, "little", signed=True) + index.to_bytes(4, "little")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
