"""The `anthropic` package, unchanged: base URL and key are enough."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.end_to_end.clients.conversations import (
    CALL,
    CALL_QUESTION,
    FRANCE,
    JSON_QUESTION,
    QUESTION,
    STATUS_TOOL,
    Capital,
    anthropic_tool,
)
from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess

TOOLS: Any = [anthropic_tool(STATUS_TOOL)]


@pytest.fixture(scope="module")
def client(daemon: DaemonProcess) -> Iterator[Anthropic]:
    with Anthropic(base_url=f"{daemon.base_url}/inference", api_key=daemon.api_key, max_retries=0) as client:
        yield client


def ask(client: Anthropic, **fields: Any) -> Any:
    fields = {"model": EMBER, "max_tokens": 200, "messages": QUESTION, "extra_body": {"temperature": 0}, **fields}
    return client.messages.create(**fields)


def test_message_answers_with_usage(client: Anthropic) -> None:
    answer = ask(client)
    (block,) = answer.content
    assert "Hearth" in block.text
    assert (answer.role, answer.stop_reason, answer.stop_sequence) == ("assistant", "end_turn", None)
    usage = answer.usage
    assert usage.output_tokens > 0
    assert usage.input_tokens + usage.cache_read_input_tokens > 0


def test_stream_says_what_the_whole_answer_says(client: Anthropic) -> None:
    whole = ask(client)
    with client.messages.stream(
        model=EMBER, max_tokens=200, messages=QUESTION, extra_body={"temperature": 0}
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == final.content[0].text == whole.content[0].text  # type: ignore[union-attr]
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens
    events = [event.type for event in ask(client, stream=True)]
    assert (events[0], events[-1]) == ("message_start", "message_stop")


def test_a_long_answer_comes_in_pieces(client: Anthropic) -> None:
    """A short one may come whole: what is ready before the machine finds time to send it goes together."""
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 300}
    form: Any = {"format": {"type": "json_schema", "schema": schema}}
    with client.messages.stream(
        model=EMBER, max_tokens=500, messages=JSON_QUESTION, output_config=form, extra_body={"temperature": 0}
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 2
    assert "".join(pieces) == final.content[0].text  # type: ignore[union-attr]
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 500)


def test_ends_are_told_apart(client: Anthropic) -> None:
    assert ask(client, max_tokens=1).stop_reason == "max_tokens"
    text = ask(client).content[0].text
    answer = ask(client, stop_sequences=["never said", text[5:8]])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", text[5:8])
    assert answer.content[0].text == text[: text.index(text[5:8])]
    assert ask(client, stop_sequences=["never said"]).stop_reason == "end_turn"


def test_tool_is_called_and_its_result_is_taken_back(client: Anthropic) -> None:
    fields: Any = {"messages": CALL_QUESTION, "tools": TOOLS, "tool_choice": {"type": "any"}}
    answer = ask(client, **fields)
    assert answer.stop_reason == "tool_use"
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert {"name": call.name, "arguments": call.input} == CALL
    with client.messages.stream(model=EMBER, max_tokens=200, **fields) as stream:
        streamed = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert [(block.name, block.input) for block in streamed] == [(call.name, call.input)]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "READY"}]}
    turns = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    last = ask(client, messages=[*CALL_QUESTION, *turns], tools=TOOLS)
    assert last.stop_reason == "end_turn"
    assert "".join(block.text for block in last.content)


def test_answer_keeps_to_a_schema(client: Anthropic) -> None:
    form = {"type": "json_schema", "schema": Capital.model_json_schema()}
    answer = ask(client, messages=JSON_QUESTION, output_config={"format": form})
    assert Capital.model_validate_json(answer.content[0].text) == FRANCE


def test_errors_are_the_packages_own(daemon: DaemonProcess, client: Anthropic) -> None:
    with (
        Anthropic(base_url=f"{daemon.base_url}/inference", api_key="fw_wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        ask(stranger)
    with pytest.raises(anthropic.NotFoundError):
        ask(client, model="accounts/fireworks/models/nobody")
    with pytest.raises(anthropic.BadRequestError, match="stop_sequences") as caught:
        ask(client, stop_sequences=[""])
    assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        ask(client, messages=[{"role": "user", "content": "fire " * 9000}])
