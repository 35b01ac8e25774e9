"""Chunks and usage, without a socket. Whole conversations with real clients are in test_clients.py."""

import json
from typing import Any

import pytest

from appliance.api.data import chat, completions
from appliance.api.data.generation import GenerationBody, StreamOptions
from appliance.api.data.rendering import ChunkEncoder, Shape, Totals, coalesce
from appliance.errors import HearthError
from appliance.services.inference import Generation
from runtime.protocol import Delta, TextPrompt, TokenLogprob, Usage


def usage(completion: int, cached: int = 0) -> Usage:
    return Usage(num_prompt_tokens=10, num_cached_tokens=cached, num_completion_tokens=completion)


def token(text: str) -> TokenLogprob:
    return TokenLogprob(token_id=1, token=text.encode(), logprob=-0.5)


def encoder(
    shape: Shape, *, num_choices: int = 1, include_usage: bool = False, logprobs: bool | int | None = None
) -> ChunkEncoder:
    body = GenerationBody(model="m", stream_options=StreamOptions(include_usage), logprobs=logprobs)
    prompts = [TextPrompt(text="")]
    return ChunkEncoder(shape, body, Generation(request_id="id", model='m"é', prompts=prompts, num_choices=num_choices))


def chunks(encoded: bytes) -> list[Any]:
    events = encoded.decode().split("\n\n")
    assert events.pop() == ""
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_chat_begins_with_the_role_and_ends_with_reason_and_usage() -> None:
    stream = encoder(chat.SHAPE)
    first = chunks(stream.encode([Delta(request_id="id", text='a"\n€')]))
    assert [chunk["choices"][0]["delta"] for chunk in first] == [
        {"role": "assistant", "content": ""},
        {"content": 'a"\n€'},
    ]
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in first)
    assert first[0]["object"] == "chat.completion.chunk"
    assert first[0]["model"] == 'm"é'
    assert first[0]["id"] == "chatcmpl-id"
    (last,) = chunks(stream.encode([Delta(request_id="id", finish_reason="stop", usage=usage(2, cached=4))]))
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert last["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert stream.end() == b""


def test_usage_comes_apart_for_who_asks_for_it_and_only_once() -> None:
    stream = encoder(completions.SHAPE, include_usage=True)
    (only,) = chunks(stream.encode([Delta(request_id="id", text="a", finish_reason="length", usage=usage(1))]))
    assert only["choices"] == [{"index": 0, "text": "a", "logprobs": None, "finish_reason": "length"}]
    assert "usage" not in only
    (apart,) = chunks(stream.end())
    assert apart["choices"] == []
    assert apart["usage"]["total_tokens"] == 11
    assert apart["object"] == "text_completion"


def test_usage_waits_for_the_last_choice() -> None:
    stream = encoder(completions.SHAPE, num_choices=2)
    (first,) = chunks(stream.encode([Delta(request_id="id", index=1, finish_reason="stop", usage=usage(1, cached=9))]))
    assert "usage" not in first
    (last,) = chunks(stream.encode([Delta(request_id="id", index=0, finish_reason="stop", usage=usage(2, cached=3))]))
    assert last["usage"]["prompt_tokens"] == 10
    assert last["usage"]["completion_tokens"] == 3
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


def test_delta_with_nothing_to_show_makes_no_chunk() -> None:
    stream = encoder(completions.SHAPE)
    assert stream.encode([Delta(request_id="id", token_ids=[1])]) == b""


def test_several_deltas_of_a_choice_become_one_chunk() -> None:
    stream = encoder(completions.SHAPE, num_choices=2, logprobs=0)
    deltas = [
        Delta(request_id="id", index=0, text="a", logprobs=[token("a")]),
        Delta(request_id="id", index=1, text="x", logprobs=[token("x")]),
        Delta(request_id="id", index=0, text="b", logprobs=[token("b")]),
        Delta(request_id="id", index=0, text="c", logprobs=[token("c")], finish_reason="stop", usage=usage(3)),
    ]
    first, second = chunks(stream.encode(deltas))
    assert first["choices"][0]["text"] == "abc"
    assert first["choices"][0]["finish_reason"] == "stop"
    assert first["choices"][0]["logprobs"]["tokens"] == ["a", "b", "c"]
    assert second["choices"][0]["index"] == 1
    (more,) = chunks(stream.encode([Delta(request_id="id", index=1, text="y", logprobs=[token("y")])]))
    assert more["choices"][0]["logprobs"]["text_offset"] == [1]


def test_coalescing_keeps_the_last_reason_and_usage() -> None:
    end = usage(2)
    merged = coalesce([Delta(request_id="id", text="a"), Delta(request_id="id", finish_reason="stop", usage=end)])
    assert merged == [Delta(request_id="id", text="a", finish_reason="stop", usage=end)]


def test_stream_that_ends_before_its_choices_is_an_error() -> None:
    stream = encoder(chat.SHAPE, num_choices=2)
    stream.encode([Delta(request_id="id", finish_reason="stop", usage=usage(1))])
    with pytest.raises(HearthError):
        stream.end()


def test_prompts_are_counted_once_each() -> None:
    totals = Totals(num_prompts=2, num_choices=2)
    for index in range(4):
        totals.add(Delta(request_id="id", index=index, finish_reason="stop", usage=usage(1)))
    totals.check_complete()
    assert totals.usage().prompt_tokens == 20
    assert totals.usage().completion_tokens == 4
