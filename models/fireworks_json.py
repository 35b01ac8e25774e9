"""`fireworks.json` in a model's folder: what the operator says about conversations, over what the files imply.

A chat template, and the dialects that the model calls tools and thinks in. A name that we do not know is refused when
the model comes in: answers parsed in a wrong dialect would be wrong for as long as nobody notices.
"""

import msgspec

from models.folder import ModelFolder
from models.reasoning_parsers.dialects import REASONING_PARSERS
from models.refusal import ModelRefused, RefusalReason
from models.tool_parsers.dialects import TOOL_PARSERS

FIREWORKS_JSON = "fireworks.json"


class _Arguments(msgspec.Struct, frozen=True):
    template: str | None = None


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
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    warnings: list[str] = []


def read_fireworks_json(folder: ModelFolder, files: list[str], *, template_bytes_max: int) -> StatedConversation:
    if FIREWORKS_JSON not in files:
        return StatedConversation()
    raw = folder.read_json(FIREWORKS_JSON, bytes_max=2 * template_bytes_max, values_max=10_000)
    try:
        file = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error), FIREWORKS_JSON) from error
    config = file.conversation_config
    template, warnings = None, []
    if config.style == "jinja":
        template = config.args.template or None
    elif config.style is not None:
        warnings.append(f"{FIREWORKS_JSON}: conversation style {config.style[:40]!r} is not known; only jinja is")
    if template is not None and len(template.encode("utf-8")) > template_bytes_max:
        message = f"its template is larger than {template_bytes_max} bytes"
        raise ModelRefused(RefusalReason.TOO_LARGE, message, FIREWORKS_JSON)
    return StatedConversation(
        template=template,
        tool_parser=_known("tool_parser", config.tool_parser or file.tool_parser, list(TOOL_PARSERS)),
        reasoning_parser=_known(
            "reasoning_parser", config.reasoning_parser or file.reasoning_parser, list(REASONING_PARSERS)
        ),
        warnings=warnings,
    )


def _known(key: str, name: str | None, names: list[str]) -> str | None:
    if name is not None and name not in names:
        message = f"{key} {name[:40]!r} is not known; it is one of {', '.join(names)}"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, FIREWORKS_JSON)
    return name
