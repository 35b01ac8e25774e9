"""`langchain-fireworks`: a chat model for LangChain, in each form of base URL that people give it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_fireworks import ChatFireworks
from pydantic import BaseModel, SecretStr

from tests.end_to_end.clients.conversations import CALL, CALL_QUESTION, FRANCE, JSON_QUESTION, STATUS_TOOL, Capital
from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess


@contextmanager
def chat_model(daemon: DaemonProcess, path: str = "/inference") -> Iterator[ChatFireworks]:
    model = ChatFireworks(
        model=EMBER, api_key=SecretStr(daemon.api_key), base_url=daemon.base_url + path, temperature=0, max_retries=0
    )
    yield model
    model.close()


@pytest.fixture
def model(daemon: DaemonProcess) -> Iterator[ChatFireworks]:
    with chat_model(daemon) as model:
        yield model


@pytest.mark.parametrize("path", ["", "/inference", "/inference/v1"])
def test_invoke_answers_by_every_base_url(daemon: DaemonProcess, path: str) -> None:
    with chat_model(daemon, path) as model:
        answer = model.invoke("What is Hearth?")
    assert "Hearth" in str(answer.content)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def test_stream_says_what_invoke_says(model: ChatFireworks) -> None:
    chunks = list(model.stream("What is Hearth?"))
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert "".join(str(chunk.content) for chunk in chunks) == model.invoke("What is Hearth?").content
    assert any(chunk.usage_metadata for chunk in chunks if isinstance(chunk, AIMessageChunk))


def test_a_long_answer_comes_in_pieces(model: ChatFireworks) -> None:
    """A short one may come whole: what is ready before the machine finds time to send it goes together."""
    chunks = list(model.stream("What is Hearth?", max_tokens=500, extra_body={"ignore_eos": True}))
    assert sum(1 for chunk in chunks if chunk.content) > 2


def test_bound_tools_are_called_and_their_results_used(model: ChatFireworks) -> None:
    bound = model.bind_tools([STATUS_TOOL])
    question = HumanMessage(CALL_QUESTION[0]["content"])
    answer = bound.invoke([question])
    (call,) = answer.tool_calls
    assert {"name": call["name"], "arguments": call["args"]} == CALL
    result = ToolMessage('{"state": "READY", "replicas": 2}', tool_call_id=call["id"])
    assert "READY" in str(bound.invoke([question, answer, result]).content)


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_structured_output_is_an_object(model: ChatFireworks, method: Literal["json_schema", "json_mode"]) -> None:
    structured = model.with_structured_output(Capital, method=method)
    assert structured.invoke(JSON_QUESTION[0]["content"]) == FRANCE


class GetDeploymentStatus(BaseModel):
    """Get the state of a deployment."""

    deployment: str


def test_structured_output_by_a_forced_call_has_the_members_asked_for(model: ChatFireworks) -> None:
    found = model.with_structured_output(GetDeploymentStatus).invoke(CALL_QUESTION[0]["content"])
    assert isinstance(found, GetDeploymentStatus)
