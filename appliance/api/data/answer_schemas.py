"""What clients of chat, completions and messages read, for /openapi.json.

The renderers write dicts and bytes, for most members depend on what was asked for; tests decode what they wrote with
these Structs, which refuse a member that is not described.
"""

from typing import Annotated, Any, Literal

import msgspec

from appliance.api.data.usage import UsageInfo

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]


class Described(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Members with a default are there when they were asked for."""


class Choice(Described, kw_only=True):
    index: int
    logprobs: Annotated[
        dict[str, Any] | None,
        msgspec.Meta(
            description="With `logprobs: true` the list `content` of tokens; with a number the parallel arrays "
            "`tokens`, `token_logprobs`, `top_logprobs`, `text_offset` and `token_ids`."
        ),
    ]
    finish_reason: FinishReason | None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    raw_output: dict[str, Any] | None = None


class CalledFunction(Described, kw_only=True):
    arguments: str
    name: str | None = None


class CalledTool(Described, kw_only=True):
    """In a stream, `id` and `name` come with the first piece."""

    index: int
    function: CalledFunction
    id: str | None = None
    type: Literal["function"] | None = None


class AssistantMessage(Described, kw_only=True):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[CalledTool] | None = None
    function_call: CalledFunction | None = None


class ChatChoice(Choice, kw_only=True):
    message: AssistantMessage


class TextChoice(Choice, kw_only=True):
    text: str


class Envelope(Described, kw_only=True):
    id: str
    created: int
    model: str
    service_tier: Literal["default"] | None = None


class ChatCompletion(Envelope, kw_only=True):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: UsageInfo
    prompt_token_ids: list[int] | None = None
    perf_metrics: dict[str, Any] | None = None


class Completion(Envelope, kw_only=True):
    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: UsageInfo
    perf_metrics: dict[str, Any] | None = None


class MessageDelta(Described, kw_only=True):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CalledTool] | None = None
    function_call: CalledFunction | None = None


class ChatChunkChoice(Choice, kw_only=True):
    delta: MessageDelta


class ChatCompletionChunk(Envelope, kw_only=True):
    """The usage comes with the choice's last chunk, or in a chunk of its own that has no choices."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: UsageInfo | None = None
    prompt_token_ids: list[int] | None = None
    perf_metrics: dict[str, Any] | None = None


class CompletionChunk(Envelope, kw_only=True):
    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: UsageInfo | None = None
    perf_metrics: dict[str, Any] | None = None


class TextBlockAnswer(Described, kw_only=True, tag_field="type", tag="text"):
    text: str


class ThinkingBlock(Described, kw_only=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class ToolUseBlock(Described, kw_only=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class MessageUsage(Described, kw_only=True):
    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class MessageAnswer(Described, kw_only=True, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"]
    model: str
    content: list[TextBlockAnswer | ThinkingBlock | ToolUseBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageEvent(msgspec.Struct, kw_only=True):
    """`message_start`, `content_block_delta` and so on; what else it holds depends on its type."""

    type: str
