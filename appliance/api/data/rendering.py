"""From deltas to what the client reads: one JSON body, or a stream of chunks (`stream.py`).

Knows no field of a request but those that shape the answer.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from aiohttp import web

from appliance.api.codec import json_response, stream_events
from appliance.api.data.choices import Choice, Shape
from appliance.api.data.generation import GenerationBody
from appliance.api.data.logprobs import TokenOffsets, render_logprobs
from appliance.api.data.performance import Figure, Stopwatch, to_headers
from appliance.api.data.rate_limit_headers import rate_limit_headers
from appliance.api.data.raw_output import render_raw_output
from appliance.api.data.stream import ChunkEncoder
from appliance.api.data.usage import Totals
from appliance.api.routing import principal, services
from appliance.services.generation import Generation
from runtime.protocol import Delta, PromptOutput

Outputs = AsyncGenerator[list[Delta], None]


class Encoder(Protocol):
    """The events of one stream."""

    def encode(self, deltas: list[Delta]) -> bytes: ...

    def end(self) -> bytes: ...


class Whole(Protocol):
    """An answer that is sent when it is complete."""

    totals: Totals

    def add(self, deltas: list[Delta], stopwatch: Stopwatch) -> None: ...


async def respond(
    request: web.Request, body: GenerationBody, generation: Generation, shape: Shape, headers: dict[str, str]
) -> web.StreamResponse:
    """Run the generation and answer in the form that the client asked for."""
    answer = await services(request).inference.begin(principal(request), generation)
    stopwatch = Stopwatch(answer)
    headers = headers | rate_limit_headers(answer.headroom)
    if body.stream:
        encoder = ChunkEncoder(shape, body, generation, stopwatch)
        events = encoded(answer.outputs, encoder, stopwatch)
        return await stream_events(request, events, headers, forecast=answer.forecast)
    whole = WholeAnswer(shape, body, generation)
    figures = await collect(answer.outputs, whole, stopwatch)
    return json_response(whole.render(figures), headers=headers | to_headers(figures))


class WholeAnswer:
    """What a client gets that waits for the end."""

    def __init__(self, shape: Shape, body: GenerationBody, generation: Generation) -> None:
        self.totals = Totals(len(generation.prompts), generation.num_choices)
        self._shape = shape
        self._body = body
        self._generation = generation
        self._choices = [Choice() for _ in range(self.totals.num_unfinished)]
        self._prompts: dict[int, PromptOutput] = {}

    def add(self, deltas: list[Delta], stopwatch: Stopwatch) -> None:
        for delta in deltas:
            self._choices[delta.index].add(delta)
            if delta.prompt is not None:
                self._prompts[delta.index // self._generation.num_choices] = delta.prompt
            if delta.finish_reason is not None:
                self.totals.add(delta)
                stopwatch.add(delta.performance)

    def render(self, figures: dict[str, Any]) -> dict[str, Any]:
        """The body; `figures` are shown to who asks for them."""
        self.totals.check_complete()
        shape, body = self._shape, self._body
        value = shape.envelope(shape.object, self._generation, body.service_tier)
        value["choices"] = [self._choice(index, choice) for index, choice in enumerate(self._choices)]
        value["usage"] = self.totals.usage()
        if body.return_token_ids and shape.is_prompt_beside_choices:
            value["prompt_token_ids"] = self._prompts[0].token_ids
        if body.perf_metrics_in_response:
            value["perf_metrics"] = figures
        return value

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        shape, body = self._shape, self._body
        prompt_index = index // self._generation.num_choices
        logprobs = None
        if choice.logprobs:
            logprobs = render_logprobs(choice.logprobs, TokenOffsets(), body.logprobs is not True)
        value = {
            "index": index,
            **shape.whole_member(choice),
            "logprobs": logprobs,
            "finish_reason": shape.finish_reason(choice.finish_reason),
        }
        if body.return_token_ids:
            value["token_ids"] = choice.token_ids
            if not shape.is_prompt_beside_choices:
                value["prompt_token_ids"] = self._prompts[prompt_index].token_ids
        if body.raw_output:
            value["raw_output"] = render_raw_output(self._generation, prompt_index, self._prompts[prompt_index], choice)
        return value


async def collect(outputs: Outputs, whole: Whole, stopwatch: Stopwatch) -> dict[str, Figure]:
    """Fill `whole` to its end; returns what is known of the time that it took."""
    async with aclosing(outputs):
        async for deltas in outputs:
            stopwatch.note_output()
            whole.add(deltas, stopwatch)
    return stopwatch.figures(whole.totals.usage())


async def encoded(outputs: Outputs, encoder: Encoder, stopwatch: Stopwatch) -> AsyncGenerator[bytes, None]:
    async with aclosing(outputs):
        async for deltas in outputs:
            stopwatch.note_output()
            if chunks := encoder.encode(deltas):
                yield chunks
    if usage := encoder.end():
        yield usage
