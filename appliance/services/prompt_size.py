"""How long prompts may be in tokens, before a worker has counted them. Pure.

Text has no more tokens than bytes, and commonly one for every four; a context bounds both.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from appliance.services.generation import Prompt
from runtime.submission import ChatMessage, ChatPrompt, TextPart, TextPrompt, TokenPrompt

BYTES_PER_TOKEN = 4
TEMPLATE_TOKENS = 16
"""What a chat template adds to a message: its role and its ends."""
IMAGE_TOKENS = 1024


class PromptSize(NamedTuple):
    """Of all prompts of a request together, in tokens."""

    likely: int
    at_most: int

    def within(self, context: int | None, num_prompts: int) -> "PromptSize":
        bound = self.at_most if context is None else context * num_prompts
        return PromptSize(min(self.likely, bound), min(self.at_most, bound))


def size_of(prompts: Sequence[Prompt]) -> PromptSize:
    num_bytes = num_tokens = 0
    for prompt in prompts:
        match prompt:
            case TokenPrompt():
                num_tokens += len(prompt.token_ids)
            case TextPrompt():
                num_bytes += len(prompt.text.encode())
                num_tokens += IMAGE_TOKENS * len(prompt.images)
            case ChatPrompt():
                num_bytes += _tools_bytes(prompt) + sum(map(_message_bytes, prompt.messages))
                num_tokens += sum(map(_message_tokens, prompt.messages))
    return PromptSize(-(-num_bytes // BYTES_PER_TOKEN) + num_tokens, num_bytes + num_tokens)


def _tools_bytes(prompt: ChatPrompt) -> int:
    return len(msgspec.json.encode(prompt.tools)) if prompt.tools else 0


def _message_bytes(message: ChatMessage) -> int:
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content if isinstance(part, TextPart))
    calls = [text for call in message.tool_calls for text in (call.function.name, call.function.arguments)]
    return sum(len(text.encode()) for text in (content or "", message.reasoning_content or "", *calls))


def _message_tokens(message: ChatMessage) -> int:
    parts = message.content if isinstance(message.content, list) else []
    return TEMPLATE_TOKENS + IMAGE_TOKENS * sum(not isinstance(part, TextPart) for part in parts)
