"""The `fireworks-ai` package, 1.x: its methods for inference, sync and async."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import fireworks
import pytest
from fireworks import AsyncFireworks, Fireworks
from tokenizers import Tokenizer

from models.builtin import EMBER_CHAT
from tests.end_to_end.clients.conversations import (
    CALL,
    CALL_QUESTION,
    FRANCE,
    JSON_QUESTION,
    QUESTION,
    STATUS_TOOL,
    YES_OR_NO,
    Capital,
    anthropic_tool,
)
from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess


@pytest.fixture(scope="module")
def client(daemon: DaemonProcess) -> Iterator[Fireworks]:
    with Fireworks(base_url=daemon.base_url, api_key=daemon.api_key, account_id="hearth", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(daemon: DaemonProcess) -> AsyncIterator[AsyncFireworks]:
    async with AsyncFireworks(base_url=daemon.base_url, api_key=daemon.api_key, max_retries=0) as client:
        yield client


def ask(client: Fireworks, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": EMBER, "messages": QUESTION, "temperature": 0, **fields})


def ember_tokens(text: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(Path(EMBER_CHAT.directory) / "tokenizer.json"))
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def test_chat_and_stream_say_the_same(client: Fireworks) -> None:
    answer = ask(client)
    chunks = list(ask(client, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    chunks = list(ask(client, stream=True, extra_body={"stream_options": {"include_usage": True}}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


async def test_async_client_does_what_the_other_does(client: Fireworks, async_client: AsyncFireworks) -> None:
    fields: Any = {"model": EMBER, "messages": QUESTION, "temperature": 0}
    answer: Any = await async_client.chat.completions.create(**fields)
    assert answer.choices[0].message.content == ask(client).choices[0].message.content
    options = {"stream_options": {"include_usage": True}}
    stream: Any = await async_client.chat.completions.create(**fields, stream=True, extra_body=options)
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_headers_tell_the_performance(client: Fireworks) -> None:
    fields: Any = {"model": EMBER, "messages": QUESTION}
    response = client.chat.completions.with_raw_response.create(**fields)
    headers = response.headers
    answer: Any = response.parse()
    assert headers["fireworks-prompt-tokens"] == str(answer.usage.prompt_tokens)
    assert headers["fireworks-deployment"].startswith("accounts/")
    for name in ("server-time-to-first-token", "server-processing-time", "prefill-duration", "generation-duration"):
        assert float(headers[f"fireworks-{name}"]) > 0, name
    assert int(headers["fireworks-num-concurrent-requests"]) >= 1
    assert "temperature" in json.loads(headers["fireworks-sampling-options"])


def test_perf_metrics_are_in_the_body_or_in_the_finish_chunk(client: Fireworks) -> None:
    answer = ask(client, perf_metrics_in_response=True)
    assert answer.perf_metrics["prompt-tokens"] == answer.usage.prompt_tokens
    chunks = list(ask(client, perf_metrics_in_response=True, stream=True))
    (told,) = [chunk for chunk in chunks if chunk.perf_metrics]
    assert told.choices[0].finish_reason == "stop"
    assert set(told.perf_metrics) == set(answer.perf_metrics)


def test_logprobs_in_both_forms(client: Fireworks) -> None:
    older = ask(client, logprobs=2).choices[0].logprobs
    newer = ask(client, logprobs=True, top_logprobs=3).choices[0].logprobs
    assert all(len(top) == 2 for top in older.top_logprobs)
    assert [entry.token for entry in newer.content] == older.tokens
    assert [entry.token_id for entry in newer.content] == older.token_ids
    assert [entry.logprob for entry in newer.content] == pytest.approx(older.token_logprobs, abs=1e-3)
    assert all(len(entry.top_logprobs) == 3 for entry in newer.content)


def test_tokens_and_raw_output_are_what_the_model_saw_and_said(client: Fireworks) -> None:
    answer = ask(client, return_token_ids=True, raw_output=True, logprobs=True, n=2)
    tokenizer = Tokenizer.from_file(str(Path(EMBER_CHAT.directory) / "tokenizer.json"))
    for choice in answer.choices:
        raw = choice.raw_output
        assert "What is Hearth?" in "".join(raw.prompt_fragments)
        assert raw.prompt_token_ids == answer.prompt_token_ids
        assert tokenizer.decode(raw.prompt_token_ids, skip_special_tokens=False) == "".join(raw.prompt_fragments)
        assert choice.token_ids == raw.completion_token_ids
        assert tokenizer.decode(choice.token_ids) == choice.message.content
        assert raw.completion.startswith(choice.message.content)
        assert len(raw.completion_logprobs.content) == len(choice.token_ids)
    chunks = list(ask(client, return_token_ids=True, stream=True))
    assert chunks[0].choices[0].prompt_token_ids == answer.prompt_token_ids
    streamed = [token_id for chunk in chunks for token_id in chunk.choices[0].token_ids or []]
    assert streamed == answer.choices[0].token_ids


def test_echo_gives_the_prompt_ahead_of_the_answer(client: Fireworks) -> None:
    prompt = "Hearth is a"
    fields: Any = {"model": EMBER, "prompt": prompt, "max_tokens": 3, "temperature": 0}
    plain: Any = client.completions.create(**fields)
    echoed: Any = client.completions.create(**fields, echo=True, logprobs=1)
    assert echoed.choices[0].text == prompt + plain.choices[0].text
    logprobs = echoed.choices[0].logprobs
    assert logprobs.token_logprobs[0] is None
    assert all(logprob <= 0 for logprob in logprobs.token_logprobs[1:])
    assert "".join(logprobs.tokens).startswith(echoed.choices[0].text), "a token that ends the answer is no text"
    last: Any = client.completions.create(**fields, echo_last=1, logprobs=1)
    assert "".join(logprobs.tokens[-4:]).startswith(last.choices[0].text)
    assert last.choices[0].logprobs.token_logprobs == pytest.approx(logprobs.token_logprobs[-4:], abs=1e-3)
    chat = ask(client, echo=True, max_tokens=1)
    assert "What is Hearth?" in chat.choices[0].message.content


def test_sampling_fields_are_carried_out(client: Fireworks) -> None:
    assert ask(client, ignore_eos=True, max_tokens=60).usage.completion_tokens == 60
    fields = {"temperature": 1.5, "seed": 5, "min_p": 0.05, "typical_p": 0.9, "n": 2, "max_tokens": 12}
    fields |= {"repetition_penalty": 1.2, "frequency_penalty": 0.5, "presence_penalty": 0.5, "top_k": 50}
    first, second = ([choice.message.content for choice in ask(client, **fields).choices] for _ in range(2))
    assert first == second
    mirostat = ask(client, temperature=1.0, seed=5, mirostat_target=3.0, mirostat_lr=0.1, max_tokens=12)
    assert mirostat.choices[0].message.content
    text = ask(client).choices[0].message.content
    assert ask(client, stop=text[5:8]).choices[0].message.content == text[: text.index(text[5:8])]


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object"},
        {"type": "json_object", "schema": Capital.model_json_schema()},
        {"type": "json_schema", "json_schema": Capital.model_json_schema()},
        {"type": "json_schema", "json_schema": {"name": "capital", "schema": Capital.model_json_schema()}},
    ],
    ids=["json_object", "json_object with schema", "json_schema", "json_schema wrapped"],
)
def test_structured_answers_parse(client: Fireworks, response_format: dict[str, Any]) -> None:
    answer = ask(client, messages=JSON_QUESTION, response_format=response_format)
    assert answer.choices[0].finish_reason == "stop"
    assert Capital.model_validate_json(answer.choices[0].message.content) == FRANCE


def test_grammar_is_obeyed(client: Fireworks) -> None:
    answer = ask(client, response_format={"type": "grammar", "grammar": YES_OR_NO})
    assert answer.choices[0].message.content in ("yes", "no")
    assert answer.choices[0].finish_reason == "stop"


def test_required_tools_are_called_whole_and_streamed(client: Fireworks) -> None:
    fields = {"messages": CALL_QUESTION, "tools": [STATUS_TOOL], "tool_choice": "required"}
    choice = ask(client, **fields).choices[0]
    assert choice.finish_reason == "tool_calls"
    function = choice.message.tool_calls[0].function
    assert {"name": function.name, "arguments": json.loads(function.arguments)} == CALL
    chunks = list(ask(client, **fields, stream=True))
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert {piece.index for piece in pieces} == {0}
    assert json.loads("".join(piece.function.arguments or "" for piece in pieces)) == CALL["arguments"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("form", ["string", "strings", "tokens", "lists of tokens"])
def test_completions_take_every_form_of_a_prompt(client: Fireworks, form: str) -> None:
    first, second = "Hearth is", "The daemon"
    prompts: Any = {
        "string": (first, 1),
        "strings": ([first, second], 2),
        "tokens": (ember_tokens(first), 1),
        "lists of tokens": ([ember_tokens(first), ember_tokens(second)], 2),
    }
    prompt, num_prompts = prompts[form]
    answer: Any = client.completions.create(model=EMBER, prompt=prompt, max_tokens=5, temperature=0, n=3)
    assert [choice.index for choice in answer.choices] == list(range(3 * num_prompts))
    assert answer.choices[0].text == answer.choices[1].text, "greedy choices of one prompt agree"


def test_messages_think_and_call(client: Fireworks) -> None:
    fields: Any = {"model": EMBER, "max_tokens": 2000, "temperature": 0}
    answer: Any = client.messages.create(**fields, messages=QUESTION, thinking={"type": "disabled"})
    assert [block.type for block in answer.content] == ["text"]
    assert "Hearth" in answer.content[0].text
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    answer = client.messages.create(**fields, messages=QUESTION, thinking=thinking)
    assert answer.stop_reason == "end_turn"
    assert answer.content[-1].type == "text"
    tools: Any = [anthropic_tool(STATUS_TOOL)]
    answer = client.messages.create(**fields, messages=CALL_QUESTION, tools=tools, tool_choice={"type": "any"})
    assert answer.stop_reason == "tool_use"
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert {"name": call.name, "arguments": call.input} == CALL
    told: Any = client.messages.create(**fields, messages=QUESTION, stream=True)
    assert "event: message_stop" in str(told), "this package gives the events as they are"


def test_errors_are_the_packages_own(daemon: DaemonProcess, client: Fireworks) -> None:
    with (
        Fireworks(base_url=daemon.base_url, api_key="fw_wrong", max_retries=0) as stranger,
        pytest.raises(fireworks.AuthenticationError),
    ):
        ask(stranger)
    with pytest.raises(fireworks.NotFoundError):
        ask(client, model="accounts/fireworks/models/nobody")
    with pytest.raises(fireworks.BadRequestError, match="prompt is too long"):
        ask(client, messages=[{"role": "user", "content": "fire " * 9000}])
