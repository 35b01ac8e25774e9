"""Chunks, without a socket. Whole conversations with real clients are in end_to_end/clients."""

import pytest

from appliance.api.data import answer, completions
from appliance.api.data.generation import StreamOptions
from appliance.errors import HearthError
from runtime.protocol import Delta, PromptOutput, ToolCallDelta
from tests.appliance.api.data.samples import MODEL, chunks, encoder, finish, token, usage
from tests.fakes.low_level import TIMES

PROMPT = PromptOutput(text="hi", token_ids=[7, 8])


def test_chat_begins_with_the_role_and_ends_with_reason_and_usage() -> None:
    stream = encoder(answer.SHAPE)
    first = chunks(stream.encode([Delta(request_id="id", text='a"\n€')]))
    assert [chunk["choices"][0]["delta"] for chunk in first] == [
        {"role": "assistant", "content": ""},
        {"content": 'a"\n€'},
    ]
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in first)
    assert first[0]["object"] == "chat.completion.chunk"
    assert first[0]["model"] == MODEL
    assert first[0]["id"] == "chatcmpl-id"
    (last,) = chunks(stream.encode([finish(usage=usage(2, cached=4))]))
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert last["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert "perf_metrics" not in last
    assert stream.end() == b""


def test_usage_comes_apart_for_who_asks_for_it_and_only_once() -> None:
    stream = encoder(completions.SHAPE, stream_options=StreamOptions(include_usage=True))
    (only,) = chunks(stream.encode([finish(text="a")]))
    assert only["choices"] == [{"index": 0, "text": "a", "logprobs": None, "finish_reason": "stop"}]
    assert "usage" not in only
    (apart,) = chunks(stream.end())
    assert apart["choices"] == []
    assert apart["usage"]["total_tokens"] == 12
    assert apart["object"] == "text_completion"


def test_usage_and_figures_wait_for_the_last_choice() -> None:
    stream = encoder(completions.SHAPE, num_choices=2, perf_metrics_in_response=True)
    (first,) = chunks(stream.encode([finish(1, usage=usage(1, cached=9), performance=TIMES)]))
    assert not {"usage", "perf_metrics"} & set(first)
    (last,) = chunks(stream.encode([finish(0, usage=usage(2, cached=3), performance=TIMES)]))
    assert last["usage"]["completion_tokens"] == 3
    assert last["perf_metrics"]["cached-prompt-tokens"] == 3
    assert last["perf_metrics"]["prefill-duration"] == TIMES.prefill_s


def test_figures_stay_in_the_finish_chunk_when_usage_comes_apart() -> None:
    options = StreamOptions(include_usage=True)
    stream = encoder(answer.SHAPE, stream_options=options, perf_metrics_in_response=True)
    _, last = chunks(stream.encode([finish()]))
    assert last["perf_metrics"]["prompt-tokens"] == 10
    assert "usage" not in last
    (apart,) = chunks(stream.end())
    assert "perf_metrics" not in apart


def test_delta_with_nothing_to_show_makes_no_chunk() -> None:
    stream = encoder(completions.SHAPE)
    assert stream.encode([Delta(request_id="id", token_ids=[1])]) == b""


def test_text_offsets_go_on_from_chunk_to_chunk_of_each_choice() -> None:
    stream = encoder(completions.SHAPE, num_choices=2, logprobs=0)
    deltas = [
        Delta(request_id="id", index=index, text=text, logprobs=[token(text)])
        for index, text in [(0, "ab"), (1, "x"), (0, "c"), (1, "y")]
    ]
    offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks(stream.encode(deltas))]
    assert offsets == [[0], [0], [2], [1]]


def test_tokens_are_shown_per_chunk_and_the_prompts_in_the_first() -> None:
    stream = encoder(completions.SHAPE, return_token_ids=True)
    first, second, last = (
        chunks(stream.encode([delta]))[0]["choices"][0]
        for delta in (
            Delta(request_id="id", text="a", token_ids=[1, 2], prompt=PROMPT),
            Delta(request_id="id", token_ids=[3]),
            finish(text="b", token_ids=[4]),
        )
    )
    assert first["prompt_token_ids"] == [7, 8]
    assert "prompt_token_ids" not in second | last
    assert [first["token_ids"], second["token_ids"], last["token_ids"]] == [[1, 2], [3], [4]]
    assert second["text"] == ""
    assert "raw_output" not in last


def test_first_chunk_of_a_chat_is_the_one_with_the_prompts_tokens() -> None:
    stream = encoder(answer.SHAPE, return_token_ids=True)
    opening, text = chunks(stream.encode([Delta(request_id="id", text="a", token_ids=[1], prompt=PROMPT)]))
    assert opening["choices"][0]["delta"]["role"] == "assistant"
    assert opening["choices"][0]["prompt_token_ids"] == [7, 8]
    assert text["choices"][0]["token_ids"] == [1]
    assert "prompt_token_ids" not in text["choices"][0]


def test_raw_output_is_whole_and_comes_with_the_reason() -> None:
    stream = encoder(answer.SHAPE, num_choices=2, raw_output=True, logprobs=True)
    early = chunks(
        stream.encode(
            [
                Delta(request_id="id", text="hi a", raw_text="a", echo_token_ids=[7, 8], prompt=PROMPT, token_ids=[1],
                      logprobs=[token("h"), token("i "), token("a")]),
                Delta(request_id="id", index=1, raw_text="<x>", token_ids=[9]),
            ]
        )
    )  # fmt: skip
    assert not any("raw_output" in chunk["choices"][0] for chunk in early)
    last = chunks(stream.encode([finish(0, raw_text="b", token_ids=[2], logprobs=[token("b")]), finish(1)]))
    first_raw, second_raw = (chunk["choices"][0]["raw_output"] for chunk in last)
    assert [entry["token"] for entry in first_raw.pop("completion_logprobs")["content"]] == ["a", "b"]
    assert first_raw == {
        "prompt_fragments": ["hi"],
        "prompt_token_ids": [7, 8],
        "completion": "ab",
        "completion_token_ids": [1, 2],
    }
    assert (second_raw["completion"], second_raw["completion_token_ids"]) == ("<x>", [9])


def test_calls_and_thoughts_come_in_chunks_of_their_own_kind() -> None:
    stream = encoder(answer.SHAPE)
    call = ToolCallDelta(index=0, id="c", name="f", arguments="{")
    _, thought, begun, more = chunks(
        stream.encode(
            [
                Delta(request_id="id", reasoning="hm"),
                Delta(request_id="id", tool_calls=[call]),
                Delta(request_id="id", tool_calls=[ToolCallDelta(index=0, arguments="}")]),
            ]
        )
    )
    assert thought["choices"][0]["delta"] == {"reasoning_content": "hm"}
    function = {"name": "f", "arguments": "{"}
    assert begun["choices"][0]["delta"] == {
        "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]
    }
    assert more["choices"][0]["delta"] == {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}


def test_stream_that_ends_before_its_choices_is_an_error() -> None:
    stream = encoder(answer.SHAPE, num_choices=2)
    stream.encode([finish()])
    with pytest.raises(HearthError):
        stream.end()
