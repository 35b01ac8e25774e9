"""What an answer is made of: one choice as it grows, and all that differs between the routes that show it.

Holds what came, in the order it came; how it is written is for `stream.py` and `rendering.py`.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from appliance.services.generation import Generation
from runtime.protocol import Delta, TokenLogprob, ToolCallDelta


class Choice(msgspec.Struct):
    """What one choice has gained so far."""

    texts: list[str] = []
    reasoning: list[str] = []
    tool_calls: list[ToolCallDelta] = []
    logprobs: list[TokenLogprob] = []
    token_ids: list[int] = []
    raw_texts: list[str] = []
    num_echoed_tokens: int = 0
    finish_reason: str | None = None

    def add(self, delta: Delta) -> None:
        self.texts.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.tool_calls.extend(delta.tool_calls)
        self.logprobs.extend(delta.logprobs or [])
        self.token_ids.extend(delta.token_ids)
        self.raw_texts.append(delta.raw_text)
        self.num_echoed_tokens += len(delta.echo_token_ids)
        self.finish_reason = delta.finish_reason


class Shape(NamedTuple):
    """All that differs between chat and text completions."""

    id_prefix: str
    object: str
    chunk_object: str
    opening: bytes
    """Member of a choice's first chunk, sent ahead of its text; empty for none."""
    text_prefix: bytes
    text_suffix: bytes
    no_text: bytes
    """The text's place in a chunk that has none."""
    whole_member: Callable[[Choice], dict[str, Any]]
    """The member of a whole choice that holds what was said."""
    rich_member: Callable[[Delta], bytes] | None = None
    """The member of a chunk that brings thoughts or calls, beside its text if any; None: there are no such chunks."""
    calls_reason: str = "tool_calls"
    """What the route calls the finish reason `tool_calls`."""
    is_prompt_beside_choices: bool = False
    """Whether a whole answer has its one prompt's tokens beside the choices, not in each."""

    def finish_reason(self, reason: str | None) -> str | None:
        return self.calls_reason if reason == "tool_calls" else reason

    def envelope(self, object_name: str, generation: Generation, service_tier: str | None) -> dict[str, Any]:
        """The members that every body and every chunk begins with."""
        members: dict[str, Any] = {
            "id": self.id_prefix + generation.request_id,
            "object": object_name,
            "created": int(time.time()),
            "model": generation.model,
        }
        # A client that names a tier is told which one it got. There is only one.
        return members if service_tier is None else members | {"service_tier": "default"}
