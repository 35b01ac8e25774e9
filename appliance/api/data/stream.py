"""From deltas to the chunks of a stream. The hot path of the daemon.

A chunk is put together from bytes that were encoded when the stream began; only what is new is encoded per chunk.
"""

from typing import Any

import msgspec

from appliance.api.data.choices import Choice, Shape
from appliance.api.data.generation import GenerationBody
from appliance.api.data.logprobs import TokenOffsets, render_logprobs
from appliance.api.data.performance import Stopwatch
from appliance.api.data.raw_output import render_raw_output
from appliance.api.data.usage import Totals
from appliance.services.generation import Generation
from runtime.protocol import Delta, PromptOutput

_encode = msgspec.json.Encoder().encode


class ChunkEncoder:
    """The chunks of one stream."""

    def __init__(self, shape: Shape, body: GenerationBody, generation: Generation, stopwatch: Stopwatch) -> None:
        self._envelope = b"data: " + _encode(shape.envelope(shape.chunk_object, generation, body.service_tier))[:-1]
        self._shape = shape
        self._body = body
        self._generation = generation
        self._stopwatch = stopwatch
        self._shows_prompt = generation.shows_prompt
        self._is_usage_apart = body.stream_options is not None and bool(body.stream_options.include_usage)
        self._totals = Totals(len(generation.prompts), generation.num_choices)
        self._offsets: dict[int, TokenOffsets] = {}
        self._text_heads: dict[int, bytes] = {}
        self._text_tail = shape.text_suffix + b',"logprobs":null,"finish_reason":null}]}\n\n'
        self._choices: dict[int, Choice] = {}
        """All they have gained, for who wants `raw_output`."""
        self._prompts: dict[int, PromptOutput] = {}

    def encode(self, deltas: list[Delta]) -> bytes:
        """What these deltas show; empty when that is nothing."""
        chunks = []
        for delta in deltas:
            head = self._text_heads.get(delta.index)
            if head is None:
                head, opening = self._open(delta)
                chunks.append(opening)
            is_plain = not (delta.logprobs or delta.reasoning or delta.tool_calls or self._shows_prompt)
            if delta.finish_reason is not None or not is_plain:
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

    def _open(self, delta: Delta) -> tuple[bytes, bytes]:
        shape = self._shape
        choice_head = self._choice_head(delta.index)
        head = choice_head + shape.text_prefix
        self._text_heads[delta.index] = head
        self._offsets[delta.index] = TokenOffsets()
        if not shape.opening:
            return head, b""
        ending = b',"logprobs":null,"finish_reason":null' + _append(self._prompt_members(delta)) + b"}]}\n\n"
        return head, choice_head + shape.opening + ending

    def _choice_head(self, index: int) -> bytes:
        return self._envelope + b',"choices":[{"index":%d,' % index

    def _full_chunk(self, delta: Delta) -> bytes:
        logprobs = b"null"
        if delta.logprobs:
            is_legacy = self._body.logprobs is not True
            logprobs = _encode(render_logprobs(delta.logprobs, self._offsets[delta.index], is_legacy))
        reason = _encode(self._shape.finish_reason(delta.finish_reason))
        more = self._low_level_members(delta) if self._shows_prompt else {}
        ending = b',"logprobs":' + logprobs + b',"finish_reason":' + reason + _append(more) + b"}]"
        if delta.finish_reason is not None:
            ending += _append(self._closing_members(delta))
        return self._choice_head(delta.index) + self._said(delta) + ending + b"}\n\n"

    def _said(self, delta: Delta) -> bytes:
        shape = self._shape
        if shape.rich_member is not None and (delta.reasoning or delta.tool_calls):
            return shape.rich_member(delta)
        return shape.text_prefix + _encode(delta.text) + shape.text_suffix if delta.text else shape.no_text

    def _low_level_members(self, delta: Delta) -> dict[str, Any]:
        """Of a choice, for a client that wants to see tokens."""
        members: dict[str, Any] = {}
        prompt_index = delta.index // self._generation.num_choices
        if delta.prompt is not None:
            self._prompts[prompt_index] = delta.prompt
        if self._body.return_token_ids:
            members["token_ids"] = delta.token_ids
            if not self._shape.opening:
                members |= self._prompt_members(delta)
        if self._body.raw_output:
            choice = self._choices.setdefault(delta.index, Choice())
            choice.add(delta)
            if delta.finish_reason is not None:
                members["raw_output"] = render_raw_output(
                    self._generation, prompt_index, self._prompts[prompt_index], choice
                )
        return members

    def _prompt_members(self, delta: Delta) -> dict[str, Any]:
        """Of the first chunk."""
        if delta.prompt is None or not self._body.return_token_ids:
            return {}
        return {"prompt_token_ids": delta.prompt.token_ids}

    def _closing_members(self, delta: Delta) -> dict[str, Any]:
        """Of the chunk that ends a choice; the last one's hold what is known of the whole request."""
        self._totals.add(delta)
        self._stopwatch.add(delta.performance)
        if self._totals.num_unfinished:
            return {}
        usage = self._totals.usage()
        members: dict[str, Any] = {} if self._is_usage_apart else {"usage": usage}
        if self._body.perf_metrics_in_response:
            members["perf_metrics"] = self._stopwatch.figures(usage)
        return members


def _append(members: dict[str, Any]) -> bytes:
    """Members that follow others of the same object."""
    return b"," + _encode(members)[1:-1] if members else b""
