"""From deltas to what the client reads: one JSON body, or a stream of chunks. The hot path of the daemon.

A chunk is put together from bytes that were encoded when the stream began; only what is new is encoded per chunk.
Knows no field of a request but those that shape the answer.
"""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from appliance.api.codec import json_response, stream_events
from appliance.api.data.generation import GenerationBody
from appliance.api.data.logprobs import TokenOffsets, render_logprobs
from appliance.api.routing import principal, services
from appliance.errors import Code, HearthError
from appliance.services.inference import Generation
from runtime.protocol import Delta, TokenLogprob, Usage

_encode = msgspec.json.Encoder().encode


class Shape(NamedTuple):
    """All that differs between chat and text completions."""

    id_prefix: str
    object: str
    chunk_object: str
    opening: bytes
    """Member of a choice's first chunk, sent ahead of its text; empty for none."""
    text_prefix: bytes
    text_suffix: bytes
    no_text: bytes
    """The text's place in a chunk that has none."""
    text_member: Callable[[str], dict[str, Any]]
    """The member of a whole choice that holds its text."""


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int


class UsageInfo(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Choice(msgspec.Struct):
    """What one choice has gained so far, of a client that waits for the whole."""

    texts: list[str] = []
    logprobs: list[TokenLogprob] = []
    finish_reason: str | None = None


class Totals:
    """The usage of a request: a prompt counts once, however many choices it has."""

    def __init__(self, num_prompts: int, num_choices: int) -> None:
        self._num_choices = num_choices
        self._prompts: list[Usage | None] = [None] * num_prompts
        self._num_completion_tokens = 0
        self.num_unfinished = num_prompts * num_choices

    def add(self, delta: Delta) -> None:
        """Count a choice's last delta."""
        assert delta.usage is not None, "a choice finished without its usage"
        prompt = delta.index // self._num_choices
        known = self._prompts[prompt]
        if known is None or delta.usage.num_cached_tokens < known.num_cached_tokens:
            self._prompts[prompt] = delta.usage  # other choices find what the first one computed
        self._num_completion_tokens += delta.usage.num_completion_tokens
        self.num_unfinished -= 1

    def check_complete(self) -> None:
        if self.num_unfinished:
            raise HearthError(Code.INTERNAL, "the answer ended before it was complete")

    def usage(self) -> UsageInfo:
        prompts = [usage for usage in self._prompts if usage is not None]
        num_prompt_tokens = sum(usage.num_prompt_tokens for usage in prompts)
        return UsageInfo(
            prompt_tokens=num_prompt_tokens,
            completion_tokens=self._num_completion_tokens,
            total_tokens=num_prompt_tokens + self._num_completion_tokens,
            prompt_tokens_details=PromptTokensDetails(sum(usage.num_cached_tokens for usage in prompts)),
        )


async def respond(
    request: web.Request, body: GenerationBody, generation: Generation, shape: Shape, headers: dict[str, str]
) -> web.StreamResponse:
    """Run the generation and answer in the form that the client asked for."""
    outputs = services(request).inference.generate(principal(request), generation)
    if body.stream:
        return await stream_events(request, _events(outputs, ChunkEncoder(shape, body, generation)), headers)
    return await _whole_response(outputs, shape, body, generation, headers)


class ChunkEncoder:
    """The chunks of one stream."""

    def __init__(self, shape: Shape, body: GenerationBody, generation: Generation) -> None:
        envelope = _envelope(shape.id_prefix, shape.chunk_object, generation)
        self._envelope = b"data: " + _encode(envelope)[:-1]
        self._shape = shape
        self._is_legacy = body.logprobs is not True
        self._is_usage_apart = body.stream_options is not None and bool(body.stream_options.include_usage)
        self._totals = Totals(len(generation.prompts), generation.num_choices)
        self._offsets: dict[int, TokenOffsets] = {}
        self._text_heads: dict[int, bytes] = {}
        self._text_tail = shape.text_suffix + b',"logprobs":null,"finish_reason":null}]}\n\n'

    def encode(self, deltas: list[Delta]) -> bytes:
        """One chunk for each choice that gained something; empty when nothing is to be shown."""
        chunks = []
        for delta in deltas if len(deltas) == 1 else coalesce(deltas):
            head = self._text_heads.get(delta.index)
            if head is None:
                head, opening = self._open(delta.index)
                chunks.append(opening)
            if delta.finish_reason is not None or delta.logprobs:
                chunks.append(self._full_chunk(delta))
            elif delta.text:
                chunks.append(head + _encode(delta.text) + self._text_tail)
        return b"".join(chunks)

    def end(self) -> bytes:
        """After the last delta: the usage, for a client that wants it apart from the choices."""
        self._totals.check_complete()
        if not self._is_usage_apart:
            return b""
        return self._envelope + b',"choices":[],"usage":' + _encode(self._totals.usage()) + b"}\n\n"

    def _open(self, index: int) -> tuple[bytes, bytes]:
        shape = self._shape
        head = self._choice_head(index) + shape.text_prefix
        self._text_heads[index] = head
        self._offsets[index] = TokenOffsets()
        if not shape.opening:
            return head, b""
        return head, self._choice_head(index) + shape.opening + b',"logprobs":null,"finish_reason":null}]}\n\n'

    def _choice_head(self, index: int) -> bytes:
        return self._envelope + b',"choices":[{"index":%d,' % index

    def _full_chunk(self, delta: Delta) -> bytes:
        shape = self._shape
        text = shape.text_prefix + _encode(delta.text) + shape.text_suffix if delta.text else shape.no_text
        logprobs = b"null"
        if delta.logprobs:
            logprobs = _encode(render_logprobs(delta.logprobs, self._offsets[delta.index], self._is_legacy))
        usage = b""
        if delta.finish_reason is not None:
            self._totals.add(delta)
            if not self._totals.num_unfinished and not self._is_usage_apart:
                usage = b',"usage":' + _encode(self._totals.usage())
        reason = _encode(delta.finish_reason)
        ending = b',"logprobs":' + logprobs + b',"finish_reason":' + reason + b"}]" + usage + b"}\n\n"
        return self._choice_head(delta.index) + text + ending


def coalesce(deltas: list[Delta]) -> list[Delta]:
    """At most one delta for each choice: a client that was slow gets larger chunks, not more of them."""
    merged: dict[int, Delta] = {}
    for delta in deltas:
        before = merged.get(delta.index)
        merged[delta.index] = delta if before is None else _join(before, delta)
    return list(merged.values())


def _join(before: Delta, delta: Delta) -> Delta:
    logprobs = None
    if before.logprobs or delta.logprobs:
        logprobs = [*(before.logprobs or []), *(delta.logprobs or [])]
    return msgspec.structs.replace(delta, text=before.text + delta.text, logprobs=logprobs)


async def _events(outputs: AsyncGenerator[list[Delta], None], encoder: ChunkEncoder) -> AsyncGenerator[bytes, None]:
    async with aclosing(outputs):
        async for deltas in outputs:
            if chunks := encoder.encode(deltas):
                yield chunks
    if usage := encoder.end():
        yield usage


async def _whole_response(
    outputs: AsyncGenerator[list[Delta], None],
    shape: Shape,
    body: GenerationBody,
    generation: Generation,
    headers: dict[str, str],
) -> web.Response:
    started = time.monotonic()
    first_token_s = 0.0
    totals = Totals(len(generation.prompts), generation.num_choices)
    choices = [Choice() for _ in range(totals.num_unfinished)]
    async with aclosing(outputs):
        async for deltas in outputs:
            first_token_s = first_token_s or time.monotonic() - started
            for delta in deltas:
                _collect(choices[delta.index], delta)
                if delta.finish_reason is not None:
                    totals.add(delta)
    totals.check_complete()
    usage = totals.usage()
    value = {
        **_envelope(shape.id_prefix, shape.object, generation),
        "choices": [_whole_choice(shape, body, index, choice) for index, choice in enumerate(choices)],
        "usage": usage,
    }
    performance = {
        "fireworks-prompt-tokens": str(usage.prompt_tokens),
        "fireworks-cached-prompt-tokens": str(usage.prompt_tokens_details.cached_tokens),
        "fireworks-server-time-to-first-token": f"{first_token_s:.3f}",
        "fireworks-server-processing-time": f"{time.monotonic() - started:.3f}",
    }
    return json_response(value, headers={**headers, **performance})


def _collect(choice: Choice, delta: Delta) -> None:
    choice.texts.append(delta.text)
    choice.logprobs.extend(delta.logprobs or [])
    choice.finish_reason = delta.finish_reason


def _whole_choice(shape: Shape, body: GenerationBody, index: int, choice: Choice) -> dict[str, Any]:
    logprobs = None
    if choice.logprobs:
        logprobs = render_logprobs(choice.logprobs, TokenOffsets(), body.logprobs is not True)
    return {
        "index": index,
        **shape.text_member("".join(choice.texts)),
        "logprobs": logprobs,
        "finish_reason": choice.finish_reason,
    }


def _envelope(id_prefix: str, object_name: str, generation: Generation) -> dict[str, Any]:
    return {
        "id": id_prefix + generation.request_id,
        "object": object_name,
        "created": int(time.time()),
        "model": generation.model,
    }
