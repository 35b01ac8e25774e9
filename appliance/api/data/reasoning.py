"""How much a model may think before it answers: the fields `reasoning_effort`, `thinking` and `reasoning_history`."""

from typing import Annotated, Literal

import msgspec

from appliance.errors import Code, HearthError
from runtime.submission import Reasoning

ReasoningEffort = (
    bool | Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | Literal["none", "low", "medium", "high", "max"]
)
"""A number is a cap on the tokens of a thought."""
ReasoningHistory = Literal["disabled", "interleaved", "preserved"]

REASONING_FIELDS = ("reasoning_effort", "reasoning_history", "thinking")

_MEDIUM = Reasoning(effort="medium")
_NONE = Reasoning(effort="none")


class ThinkingEnabled(msgspec.Struct, tag_field="type", tag="enabled"):
    budget_tokens: Annotated[int, msgspec.Meta(ge=1024, le=2**31 - 1)] | None = None


class ThinkingDisabled(msgspec.Struct, tag_field="type", tag="disabled"):
    pass


Thinking = ThinkingEnabled | ThinkingDisabled


def to_reasoning(
    effort: ReasoningEffort | None, thinking: Thinking | None, history: ReasoningHistory | None
) -> Reasoning:
    if effort is not None and thinking is not None:
        message = "thinking: says the same as reasoning_effort; give one of them"
        raise HearthError(Code.INVALID, message, "thinking")
    return msgspec.structs.replace(_asked(effort, thinking), history=history)


def _asked(effort: ReasoningEffort | None, thinking: Thinking | None) -> Reasoning:
    match effort, thinking:
        case None, None:
            return Reasoning()
        case (False | "none", _) | (_, ThinkingDisabled()):
            return _NONE
        case True, _:
            return _MEDIUM
        case _, ThinkingEnabled(budget_tokens=budget):
            return msgspec.structs.replace(_MEDIUM, budget_tokens=budget)
        case int(budget), _:
            return Reasoning(budget_tokens=budget)
        case "max", _:
            return Reasoning(effort="high")
        case ("low" | "medium" | "high") as name, _:
            return Reasoning(effort=name)
    raise AssertionError(effort)
