"""POST /messages: Anthropic's form of a chat. The same prompts and the same generation as in `chat.py`.

Knows the fields; blocks of messages are read in `message_input.py`, those of the answer written in `message_answer.py`.
"""

from typing import Any, Literal

import msgspec
from aiohttp import web

from appliance.api.codec import decode_json, ignored_fields, json_response, read_body, stream_events
from appliance.api.data.answer_schemas import MessageAnswer, MessageEvent
from appliance.api.data.chat import check_number
from appliance.api.data.generation import (
    IGNORED_FIELDS_HEADER,
    Count,
    CountOrZero,
    GenerationBody,
    Probability,
    check_stops,
    invalid,
    to_generation,
    unsupported,
)
from appliance.api.data.image_parts import read_images
from appliance.api.data.message_answer import WholeMessage
from appliance.api.data.message_input import InputMessage, SystemBlock, image_sources, to_chat_messages, to_system
from appliance.api.data.message_stream import MessageEncoder
from appliance.api.data.performance import Stopwatch, to_headers
from appliance.api.data.rate_limit_headers import rate_limit_headers
from appliance.api.data.reasoning import Thinking, ThinkingDisabled, ThinkingEnabled, to_reasoning
from appliance.api.data.rendering import collect, encoded
from appliance.api.data.response_format import AnswerFormat, constrain, unenforced_headers
from appliance.api.data.tools import FunctionDefinition, ToolName, check_schemas, check_tools, required_choice
from appliance.api.routing import Permission, Route, principal, services
from appliance.config import LimitSettings
from appliance.services.generation import Generation
from runtime.submission import ChatPrompt, Reasoning, Tool, ToolChoice


class ToolSpec(msgspec.Struct):
    """A function of the client's; there are no tools that a server runs."""

    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None


class AutoChoice(msgspec.Struct, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool | None = None


class AnyChoice(msgspec.Struct, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool | None = None


class NamedToolChoice(msgspec.Struct, tag_field="type", tag="tool"):
    name: str
    disable_parallel_tool_use: bool | None = None


class NoChoice(msgspec.Struct, tag_field="type", tag="none"):
    pass


class Metadata(msgspec.Struct):
    user_id: str | None = None
    """Requests of one user prefer the same replica."""


class OutputFormat(msgspec.Struct):
    schema: Any
    type: Literal["json_schema"] = "json_schema"


class OutputConfig(msgspec.Struct):
    effort: Literal["low", "medium", "high", "max"] | None = None
    format: OutputFormat | None = None


class MessagesBody(msgspec.Struct, kw_only=True):
    model: str
    messages: list[InputMessage]
    max_tokens: Count
    system: str | list[SystemBlock] | None = None
    stop_sequences: list[str] | None = None
    temperature: Probability | None = None
    top_p: Probability | None = None
    top_k: CountOrZero | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedToolChoice | NoChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    raw_output: bool | None = None


async def create_message(request: web.Request) -> web.StreamResponse:
    """Answer a conversation in Anthropic's form."""
    raw = await read_body(request)
    body = decode_json(raw, MessagesBody)
    if body.raw_output:
        raise unsupported("raw_output")
    config = services(request).config
    check_number(body.messages, config.limits)
    images = await read_images(list(image_sources(body.messages)), config.images)
    prompt = _prompt(body, images, config.limits)
    form = _answer_format(body.output_config)
    schemas = [f"tools[{position}].input_schema" for position in range(len(prompt.tools))]
    unenforced = [*form.unenforced, *check_schemas(prompt.tools, prompt.tool_choice, schemas)]
    generation = _generation(request, body, prompt, form, config.limits)
    names = ignored_fields(raw, MessagesBody)
    headers = {IGNORED_FIELDS_HEADER: names} if names else {}
    return await _respond(request, generation, headers | unenforced_headers(unenforced), is_streamed=bool(body.stream))


async def _respond(
    request: web.Request, generation: Generation, headers: dict[str, str], *, is_streamed: bool
) -> web.StreamResponse:
    answer = await services(request).inference.begin(principal(request), generation)
    stopwatch = Stopwatch(answer)
    headers = headers | rate_limit_headers(answer.headroom)
    if is_streamed:
        events = encoded(answer.outputs, MessageEncoder(generation, stopwatch), stopwatch)
        return await stream_events(request, events, headers, end=b"", forecast=answer.forecast)
    whole = WholeMessage(generation)
    figures = await collect(answer.outputs, whole, stopwatch)
    return json_response(whole.render(), headers=headers | to_headers(figures))


def _generation(
    request: web.Request, body: MessagesBody, prompt: ChatPrompt, form: AnswerFormat, limits: LimitSettings
) -> Generation:
    stops = check_stops(body.stop_sequences, limits, "stop_sequences")
    known = GenerationBody(
        model=body.model,
        max_tokens=body.max_tokens,
        stop=stops,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        # With them come the tokens' bytes, which tell the stop sequence.
        logprobs=True if stops else None,
        user=None if body.metadata is None else body.metadata.user_id,
    )
    return to_generation(request, known, [prompt], form.constraint, limits)


def _prompt(body: MessagesBody, images: dict[str, bytes], limits: LimitSettings) -> ChatPrompt:
    messages = to_system(body.system)
    for index, message in enumerate(body.messages):
        messages += to_chat_messages(message, f"messages[{index}]", images)
    functions = [
        FunctionDefinition(
            name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
        )
        for tool in body.tools or []
    ]
    tools = check_tools(functions, "tools", limits)
    return ChatPrompt(messages=messages, tools=tools, tool_choice=_tool_choice(body, tools), reasoning=_reasoning(body))


def _tool_choice(body: MessagesBody, tools: list[Tool]) -> ToolChoice:
    match body.tool_choice:
        case None:
            return ToolChoice()
        case NoChoice():
            return ToolChoice(mode="none")
        case AutoChoice(disable_parallel_tool_use=is_single):
            return ToolChoice(is_parallel=not is_single)
        case AnyChoice(disable_parallel_tool_use=is_single):
            return required_choice(tools, "", "tool_choice", is_parallel=not is_single)
        case NamedToolChoice(name=name, disable_parallel_tool_use=is_single):
            if not name:
                raise invalid("tool_choice.name", "must not be empty")
            return required_choice(tools, name, "tool_choice.name", is_parallel=not is_single)


def _reasoning(body: MessagesBody) -> Reasoning:
    """Here the effort goes with a budget: one is what the model is told, the other is a cap."""
    effort = None if body.output_config is None else body.output_config.effort
    match body.thinking:
        case ThinkingEnabled(budget_tokens=budget) as thinking:
            if budget is not None and budget >= body.max_tokens:
                raise invalid("thinking.budget_tokens", "must be less than max_tokens")
            asked = to_reasoning(None, thinking, None)
            return (
                asked
                if effort is None
                else msgspec.structs.replace(asked, effort=to_reasoning(effort, None, None).effort)
            )
        case ThinkingDisabled() as thinking:
            return to_reasoning(None, thinking, None)
    return to_reasoning(effort, None, None)


def _answer_format(config: OutputConfig | None) -> AnswerFormat:
    if config is None or config.format is None:
        return AnswerFormat()
    return constrain(config.format.schema, "output_config.format.schema")


ROUTES = [
    Route(
        "POST",
        "/inference/v1/messages",
        create_message,
        Permission.INFER,
        MessagesBody,
        answer=MessageAnswer,
        event=MessageEvent,
    ),
]
