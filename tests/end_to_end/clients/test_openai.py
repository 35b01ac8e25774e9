"""The `openai` package, unchanged: base URL and key are enough."""

import base64
import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from tests.end_to_end.clients.conversations import (
    CALL,
    CALL_QUESTION,
    FRANCE,
    JSON_QUESTION,
    QUESTION,
    STATUS_TOOL,
    Capital,
)
from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess

PIXEL = base64.b64encode(b"P6 1 1 255 \0\0\0").decode()


def ask(client: OpenAI, **fields: Any) -> ChatCompletion:
    answer = client.chat.completions.create(**{"model": EMBER, "messages": QUESTION, "temperature": 0, **fields})
    assert isinstance(answer, ChatCompletion)
    return answer


def text_of(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def test_chat_answers_with_usage(openai_client: OpenAI) -> None:
    answer = ask(openai_client)
    assert "Hearth" in text_of(answer)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_stream_says_what_the_whole_answer_says(openai_client: OpenAI) -> None:
    whole = ask(openai_client)
    stream = openai_client.chat.completions.create(
        model=EMBER, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == text_of(whole)
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_long_answer_comes_in_pieces(openai_client: OpenAI) -> None:
    """A short one may come whole: what is ready before the machine finds time to send it goes together."""
    fields: Any = {"model": EMBER, "messages": QUESTION, "temperature": 0, "max_tokens": 500}
    chunks = list(openai_client.chat.completions.create(**fields, stream=True, extra_body={"ignore_eos": True}))
    assert sum(1 for chunk in chunks if chunk.choices and chunk.choices[0].delta.content) > 2
    assert chunks[-1].choices[0].finish_reason == "length"


def test_second_time_the_prompt_is_found_in_the_cache(openai_client: OpenAI) -> None:
    long = [{"role": "user", "content": "What is Hearth? " * 40}]
    fields = {"messages": long, "max_tokens": 1, "extra_body": {"prompt_cache_isolation_key": "clients"}}
    first, second = (ask(openai_client, **fields).usage for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.prompt_tokens_details is not None
    assert first.prompt_tokens_details.cached_tokens == 0
    assert second.prompt_tokens_details is not None
    assert (second.prompt_tokens_details.cached_tokens or 0) > second.prompt_tokens / 2


def test_n_gives_that_many_choices(openai_client: OpenAI) -> None:
    answer = ask(openai_client, n=3, temperature=1.0, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)


def test_seed_repeats_and_choices_differ_by_stream(openai_client: OpenAI) -> None:
    def sample(seed: int) -> list[str | None]:
        greeting = [{"role": "user", "content": "Hello"}]
        answer = ask(openai_client, messages=greeting, n=2, temperature=1.8, seed=seed, max_tokens=24)
        return [choice.message.content for choice in answer.choices]

    assert sample(7) == sample(7)
    assert sample(7) != sample(8)


def test_stop_ends_before_the_stop_text(openai_client: OpenAI) -> None:
    text = text_of(ask(openai_client))
    stop = text[len(text) // 2 : len(text) // 2 + 4]
    cut = ask(openai_client, stop=[stop])
    assert text_of(cut) == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_max_tokens_cuts_with_length(openai_client: OpenAI) -> None:
    answer = ask(openai_client, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_logprobs_name_every_token(openai_client: OpenAI) -> None:
    answer = ask(openai_client, logprobs=True, top_logprobs=3)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    said = b"".join(bytes(entry.bytes or []) for entry in logprobs.content).decode()
    assert text_of(answer) in said
    assert all(len(entry.top_logprobs) == 3 and entry.logprob <= 0 for entry in logprobs.content)
    assert all(entry.top_logprobs[0].token == entry.token for entry in logprobs.content), "greedy takes the likeliest"


def test_completions_logprobs_in_the_older_form(openai_client: OpenAI) -> None:
    answer = openai_client.completions.create(model=EMBER, prompt="Hearth is", max_tokens=4, temperature=0, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert answer.usage is not None
    lengths = {len(column or []) for column in (logprobs.tokens, logprobs.token_logprobs, logprobs.text_offset)}
    assert lengths == {answer.usage.completion_tokens}
    assert all(len(top) == 2 for top in logprobs.top_logprobs or [])


def test_bias_forbids_a_token(openai_client: OpenAI) -> None:
    plain = openai_client.completions.create(model=EMBER, prompt="Hearth is", max_tokens=1, temperature=0, logprobs=1)
    token_ids: Any = plain.choices[0].logprobs
    (token_id,) = token_ids.token_ids
    biased = openai_client.completions.create(
        model=EMBER, prompt="Hearth is", max_tokens=1, temperature=0, logit_bias={str(token_id): -100}
    )
    assert biased.choices[0].text != plain.choices[0].text


def test_parse_fills_a_pydantic_model(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.parse(
        model=EMBER, messages=JSON_QUESTION, temperature=0, response_format=Capital
    )
    assert answer.choices[0].message.parsed == FRANCE


def test_tools_are_called_and_their_results_used(openai_client: OpenAI) -> None:
    answer = ask(openai_client, messages=CALL_QUESTION, tools=[STATUS_TOOL])
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert {"name": call.function.name, "arguments": json.loads(call.function.arguments)} == CALL
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"state": "READY", "replicas": 2}'}
    told = [*CALL_QUESTION, answer.choices[0].message, result]
    final = ask(openai_client, messages=told, tools=[STATUS_TOOL])
    assert final.choices[0].finish_reason == "stop"
    assert "blue-fox" in text_of(final)
    assert "READY" in text_of(final)


def test_streamed_tool_calls_arrive_in_pieces_with_an_index(openai_client: OpenAI) -> None:
    stream = openai_client.chat.completions.create(
        model=EMBER, messages=CALL_QUESTION, tools=[STATUS_TOOL], temperature=0, stream=True
    )
    chunks = [chunk for chunk in stream if chunk.choices]
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert {piece.index for piece in pieces} == {0}
    functions = [piece.function for piece in pieces if piece.function is not None]
    assert "".join(function.name or "" for function in functions) == CALL["name"]
    assert json.loads("".join(function.arguments or "" for function in functions)) == CALL["arguments"]
    assert [piece.id for piece in pieces if piece.id], "the call has an id"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_forced_call_is_a_call_whatever_was_asked(openai_client: OpenAI) -> None:
    choice = {"type": "function", "function": {"name": CALL["name"]}}
    answer = ask(openai_client, tools=[STATUS_TOOL], tool_choice=choice)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == CALL["name"]
    assert set(json.loads(call.function.arguments)) == {"deployment"}


def test_prediction_changes_nothing_but_the_time(openai_client: OpenAI) -> None:
    plain = text_of(ask(openai_client))
    for guess in (plain, plain[: len(plain) // 2] + " and so on", "something else"):
        predicted = ask(openai_client, prediction={"type": "content", "content": guess})
        assert text_of(predicted) == plain


def test_an_image_for_a_model_without_eyes_is_refused(openai_client: OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/x-portable-pixmap;base64,{PIXEL}"}}
    content = [{"type": "text", "text": "What is this?"}, image]
    with pytest.raises(openai.BadRequestError, match="image") as caught:
        ask(openai_client, messages=[{"role": "user", "content": content}])
    assert (caught.value.param or "").startswith("messages")


def test_models_are_listed_and_found_by_name(openai_client: OpenAI) -> None:
    listed = openai_client.models.list()
    assert EMBER in [model.id for model in listed.data]
    assert openai_client.models.retrieve(EMBER).id == EMBER


def test_errors_are_the_packages_own(daemon: DaemonProcess, openai_client: OpenAI) -> None:
    with (
        OpenAI(base_url=f"{daemon.base_url}/inference/v1", api_key="fw_wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        ask(stranger)
    with pytest.raises(openai.NotFoundError, match="Model not found, inaccessible, and/or not deployed"):
        ask(openai_client, model="accounts/fireworks/models/nobody")
    with pytest.raises(openai.BadRequestError, match="prompt is too long"):
        openai_client.completions.create(model=EMBER, prompt="fire " * 9000, max_tokens=1)
