"""The socket thread's half of the LLM engine: a Submit becomes a Generation, step outputs become Deltas.

Nothing of a call reaches the engine unchecked. Remembers each call until its last choice has finished or the client
has left; never touches the engine or the device.
"""

import logging
import secrets
from hashlib import blake2b
from pathlib import Path

from models.info import ModelInfo
from runtime.engine import Frontend, Rendered, RequestRefused
from runtime.llm.choice import Choice
from runtime.llm.detokenizer import Detokenizer
from runtime.llm.engine import LlmOutput
from runtime.llm.limits import check_limits, normalise
from runtime.llm.prompts import Prompts
from runtime.llm.request import Generation, Request, RequestFailed
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import ChatPrompt, Failed, FailureCode, Submit

logger = logging.getLogger(__name__)


class Call:
    """One client call between its Submit and its last Delta."""

    def __init__(self, choices: dict[int, Choice], num_prompt_tokens: int) -> None:
        self.choices = choices
        """Unfinished ones, by index."""
        self.num_prompt_tokens = num_prompt_tokens
        self.num_cached_tokens: int | None = None
        """Of the choice that ran first. Later ones find the prompt in the cache because of it: no news to a client."""


class LlmFrontend(Frontend[Generation, LlmOutput]):
    """`kv_capacity_tokens`: tokens whose KV the whole pool can hold."""

    def __init__(self, model_dir: Path, info: ModelInfo, max_context_length: int, kv_capacity_tokens: int) -> None:
        self._vocab_size = info.vocab_size
        self._stop_token_ids = frozenset(info.eos_token_ids)
        # The last token of a request is returned without its KV ever being computed.
        self._max_context_length = min(max_context_length, kv_capacity_tokens + 1)
        self._vocabulary = Vocabulary.load(model_dir)
        self._prompts = Prompts(model_dir, info, self._vocabulary, self._max_context_length - 1)
        self._calls: dict[str, Call] = {}

    def prepare(self, submit: Submit) -> Generation:
        check_limits(submit, self._vocab_size)
        if submit.request_id in self._calls:
            raise RequestRefused(FailureCode.INVALID, "this request id is in use")
        prompt_token_ids = self._prompts.token_ids(submit.prompt)
        generation = Generation(submit.request_id, self._requests(submit, prompt_token_ids))
        # A chat answer is a text of its own; a completion continues its prompt's text, if there is any.
        has_text_before = not isinstance(submit.prompt, ChatPrompt) and any(
            map(self._vocabulary.text_bytes, prompt_token_ids)
        )
        choices = {}
        for index in range(submit.num_choices):
            detokenizer = Detokenizer(self._vocabulary, submit.stop, starts_text=not has_text_before)
            choices[index] = Choice(submit.request_id, index, self._vocabulary, detokenizer)
        self._calls[submit.request_id] = Call(choices, len(prompt_token_ids))
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

    def close(self) -> None:
        self._prompts.close()

    def _requests(self, submit: Submit, prompt_token_ids: list[int]) -> list[Request]:
        max_tokens = self._max_context_length - len(prompt_token_ids)
        if submit.max_tokens is not None:
            max_tokens = min(max_tokens, submit.max_tokens)
        seed = secrets.randbits(63) if submit.sampling.seed is None else submit.sampling.seed
        return [
            Request(
                request_id=submit.request_id,
                index=index,
                prompt_token_ids=prompt_token_ids,
                sampling=normalise(submit.sampling, self._vocab_size),
                seed=choice_seed(seed, index),
                max_tokens=max_tokens,
                stop_token_ids=self._stop_token_ids,
                num_logprobs=submit.num_logprobs,
                cache_namespace=submit.cache_namespace.encode(),
            )
            for index in range(submit.num_choices)
        ]

    def _render_call(self, request_id: str, call: Call, outputs: list[LlmOutput], rendered: Rendered) -> None:
        changed: dict[int, Choice] = {}
        for output in outputs:
            if isinstance(output, RequestFailed):
                self._fail(request_id, rendered)
                return
            choice = call.choices.get(output.index)
            if choice is None or choice.finish_reason is not None:
                continue  # computed before the engine heard of the stop string
            if call.num_cached_tokens is None:
                call.num_cached_tokens = output.num_cached_tokens
            choice.add(output)
            changed[output.index] = choice
        for index, choice in changed.items():
            rendered.deltas.append(choice.take_delta(call.num_prompt_tokens, call.num_cached_tokens or 0))
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
