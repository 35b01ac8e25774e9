"""What a chat template may be asked to render, for those who ask and for `chat_template.py`, which renders.

Whoever only asks, such as a worker, is spared the template language and its start.
"""

from typing import Any

import msgspec

OUTPUT_CHARACTERS_MAX = 4 * 1024 * 1024


class TemplateError(Exception):
    """The template refused the messages, or is broken. The message may be shown to the client."""


class Conversation(msgspec.Struct, frozen=True, array_like=True):
    """All that a template may be asked to render."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    """As OpenAI writes them: `{"type": "function", "function": {…}}`."""
    settings: dict[str, bool | int | str] = {}
    """Values for variables of the template; those that it does not have are left out."""
