"""`fireworks.json` in a model's folder: what the operator says about conversations, over what the files imply.

A chat template, and the dialects that the model calls tools and thinks in. A name that we do not know is refused when
the model comes in: answers parsed in a wrong dialect would be wrong for as long as nobody notices.
"""

from typing import Any

import msgspec

from models.folder import ModelFolder
from models.reasoning_parsers.dialects import REASONING_PARSERS
from models.refusal import ModelRefused, RefusalReason
from models.strict_json import MalformedJson, parse_object
from models.tool_parsers.dialects import TOOL_PARSERS

FIREWORKS_JSON = "fireworks.json"
JINJA = "jinja"
_VALUES_MAX = 200_000
"""Commas and brackets of a template count as such."""


class _Arguments(msgspec.Struct, frozen=True):
    template: str | None = None
    system: str | None = None


class _ConversationConfig(msgspec.Struct, frozen=True):
    style: str | None = None
    args: _Arguments = _Arguments()
    tool_parser: str | None = None
    reasoning_parser: str | None = None


class _File(msgspec.Struct, frozen=True):
    conversation_config: _ConversationConfig = _ConversationConfig()
    tool_parser: str | None = None
    reasoning_parser: str | None = None


class StatedConversation(msgspec.Struct, frozen=True, kw_only=True):
    """None: not said."""

    template: str | None = None
    system: str | None = None
    """What a conversation begins with that has no system message of its own."""
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    warnings: list[str] = []


class ConversationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What of the file the API shows and changes."""

    style: str = JINJA
    template: str | None = None
    system: str | None = None


def read_fireworks_json(folder: ModelFolder, files: list[str], *, template_bytes_max: int) -> StatedConversation:
    if FIREWORKS_JSON not in files:
        return StatedConversation()
    raw = folder.read_json(FIREWORKS_JSON, bytes_max=2 * template_bytes_max, values_max=_VALUES_MAX)
    try:
        file = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error), FIREWORKS_JSON) from error
    config = file.conversation_config
    template, system, warnings = None, None, []
    if config.style == JINJA:
        template, system = config.args.template or None, config.args.system or None
    elif config.style is not None:
        warnings.append(f"{FIREWORKS_JSON}: conversation style {config.style[:40]!r} is not known; only jinja is")
    if template is not None and len(template.encode("utf-8")) > template_bytes_max:
        message = f"its template is larger than {template_bytes_max} bytes"
        raise ModelRefused(RefusalReason.TOO_LARGE, message, FIREWORKS_JSON)
    return StatedConversation(
        template=template,
        system=system,
        tool_parser=_known("tool_parser", config.tool_parser or file.tool_parser, list(TOOL_PARSERS)),
        reasoning_parser=_known(
            "reasoning_parser", config.reasoning_parser or file.reasoning_parser, list(REASONING_PARSERS)
        ),
        warnings=warnings,
    )


def stated_config(content: bytes) -> ConversationConfig | None:
    """What the content of the file says of conversations, None for nothing; raises ModelRefused for no such file."""
    said = _parse(content).get("conversation_config") or {}
    try:
        config = msgspec.convert(said, _ConversationConfig)
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error), FIREWORKS_JSON) from error
    if config.style is None:
        return None
    return ConversationConfig(style=config.style, template=config.args.template, system=config.args.system)


def with_config(content: bytes, config: ConversationConfig | None) -> bytes:
    """The content of the file with this in it in the place of what it said; None takes that away."""
    stated_config(content)
    file = _parse(content)
    said = dict(file.get("conversation_config") or {})
    said.pop("style", None)
    said.pop("args", None)
    if config is not None:
        stated = {"template": config.template, "system": config.system}
        said |= {"style": config.style, "args": {name: text for name, text in stated.items() if text}}
    return msgspec.json.format(msgspec.json.encode({**file, "conversation_config": said}), indent=2)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        return parse_object(content, values_max=_VALUES_MAX)
    except MalformedJson as error:
        raise ModelRefused(RefusalReason.MALFORMED_JSON, str(error), FIREWORKS_JSON) from error


def _known(key: str, name: str | None, names: list[str]) -> str | None:
    if name is not None and name not in names:
        message = f"{key} {name[:40]!r} is not known; it is one of {', '.join(names)}"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, FIREWORKS_JSON)
    return name
