"""What a `Submit` asks for: prompts, tools, constraints, sampling. Values without behaviour, as they cross the socket.

Imports msgspec and the standard library only; the messages themselves are in `protocol.py`.
"""

from typing import Any, Literal

from runtime.message import Value


class ToolCallFunction(Value, frozen=True, kw_only=True):
    name: str
    arguments: str
    """JSON text."""


class ToolCall(Value, frozen=True, kw_only=True):
    id: str
    function: ToolCallFunction


class TextPart(Value, frozen=True, kw_only=True, tag="text"):
    text: str


class ImagePart(Value, frozen=True, kw_only=True, tag="image"):
    data: bytes
    """An image file as the client sent it, no larger than the daemon allows; decoded in a killable process only."""


class ChatMessage(Value, frozen=True, kw_only=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[TextPart | ImagePart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    """What the assistant thought before it said `content`."""


class Tool(Value, frozen=True, kw_only=True):
    """A function that the model may ask the client to call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of its arguments; None: an empty object."""
    is_strict: bool = False


class ToolChoice(Value, frozen=True, kw_only=True):
    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None
    """With `required`: this function and no other."""
    is_parallel: bool = True
    """Whether one answer may hold several calls."""


class Reasoning(Value, frozen=True, kw_only=True):
    """How much the model may think before it answers; None everywhere: as its template has it."""

    effort: Literal["none", "low", "medium", "high"] | None = None
    budget_tokens: int | None = None
    """Thinking is ended after so many tokens."""
    history: Literal["disabled", "interleaved", "preserved"] | None = None
    """Which turns' earlier thoughts the prompt shows: none, those since the last user turn, all."""


class ChatPrompt(Value, frozen=True, kw_only=True, tag=True):
    messages: list[ChatMessage]
    tools: list[Tool] = []
    tool_choice: ToolChoice = ToolChoice()
    reasoning: Reasoning = Reasoning()
    max_tokens: int | None = None
    """The oldest turns that are no system messages are dropped until the prompt is no longer than this."""
    is_plain_text: bool = False
    """Special tokens' names inside the messages are text like any other."""


class TextPrompt(Value, frozen=True, kw_only=True, tag=True):
    text: str
    images: list[bytes] = []
    """Image files, one for each image marker in the text."""


class TokenPrompt(Value, frozen=True, kw_only=True, tag=True):
    token_ids: list[int]


class JsonConstraint(Value, frozen=True, kw_only=True, tag=True):
    """The answer is a JSON value that this schema allows."""

    schema: str
    """JSON text, prepared by `models/json_schema.py`."""


class GrammarConstraint(Value, frozen=True, kw_only=True, tag=True):
    """The answer is a sentence of this grammar, beginning at its rule `root`."""

    gbnf: str


class SamplingParams(Value, frozen=True, kw_only=True):
    """How the next token is chosen. Neutral values switch a rule off."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    frequency_penalty: float = 0.0
    """Subtracted for each time a token stands in the output."""
    presence_penalty: float = 0.0
    """Subtracted once if a token stands in the output."""
    repetition_penalty: float = 1.0
    """A token of prompt or output has its logit divided by this if positive, multiplied if negative."""
    mirostat_target: float | None = None
    """Surprise in bits, the logarithm of the perplexity, to steer to by mirostat 2.0; None: off."""
    mirostat_lr: float = 0.1
    logit_bias: dict[int, float] = {}
    """Added to the logits of these token ids."""
    seed: int | None = None
    """None: the worker draws one. Choice i of a request uses a stream of its own."""
