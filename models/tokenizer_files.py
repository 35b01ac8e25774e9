"""What the tokenizer's files say: how many ids there are, the special tokens, the chat template's source.

Nothing is built or compiled here: building the tokenizer is the worker's work, compiling the template the renderer's.
"""

from typing import Any, NamedTuple

from models.fireworks_json import read_fireworks_json
from models.folder import ModelFolder
from models.reasoning_parsers.dialects import detect_reasoning_parser
from models.refusal import ModelRefused, RefusalReason
from models.tool_parsers.dialects import detect_tool_parser

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
TEMPLATE_BYTES_MAX = 512 * 1024

_MIB = 1024 * 1024
_SENTENCEPIECE_FILES = {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"}
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class ConversationFiles(NamedTuple):
    template: str | None
    system: str | None
    """What a conversation begins with that has no system message of its own."""
    special_tokens: dict[str, str]
    names_remote_code: bool
    tool_parser: str
    """A name out of `tool_parsers/dialects.py`: the operator's word, or what the template shows."""
    reasoning_parser: str
    """Likewise out of `reasoning_parsers/dialects.py`."""
    supports_tools: bool
    """Whether its template shows tools to the model, or somebody said how it calls them."""
    warnings: list[str]


def count_token_ids(folder: ModelFolder, files: list[str]) -> int:
    """One more than the largest id that tokenizer.json can produce."""
    if TOKENIZER not in files:
        legacy = sorted(_SENTENCEPIECE_FILES.intersection(files))
        hint = f"; {legacy[0]} alone is not enough, convert it with transformers' fast tokenizer" if legacy else ""
        raise ModelRefused(RefusalReason.MISSING_FILE, f"is missing{hint}", TOKENIZER)
    tokenizer = folder.read_json(TOKENIZER, bytes_max=128 * _MIB, values_max=8_000_000)
    ids = _vocabulary_ids(tokenizer.get("model")) + _added_ids(tokenizer.get("added_tokens") or [])
    if not ids or not all(type(token_id) is int and token_id >= 0 for token_id in ids):
        raise ModelRefused(RefusalReason.INVALID_TOKENIZER, "has no vocabulary of non-negative ids", TOKENIZER)
    return int(max(ids)) + 1


def token_id(folder: ModelFolder, files: list[str], token: str) -> int | None:
    """The id of a token by its text, as the vocabulary spells it."""
    if TOKENIZER not in files:
        return None
    tokenizer = folder.read_json(TOKENIZER, bytes_max=128 * _MIB, values_max=8_000_000)
    for added in tokenizer.get("added_tokens") or []:
        match added:
            case {"content": str(content), "id": int(found)} if content == token:
                return found
    match tokenizer.get("model"):
        case {"vocab": dict() as by_token} if isinstance(by_token.get(token), int):
            return int(by_token[token])
        case {"vocab": list() as in_order}:
            texts = [entry[0] for entry in in_order if isinstance(entry, list) and entry]
            return texts.index(token) if token in texts else None
    return None


def read_conversation_files(folder: ModelFolder, files: list[str]) -> ConversationFiles:
    """Template and special tokens; both may be absent.

    A template in `fireworks.json` wins over one in a file of its own, and that over one in the tokenizer's config.
    """
    config: dict[str, Any] = {}
    if TOKENIZER_CONFIG in files:
        config = folder.read_json(TOKENIZER_CONFIG, bytes_max=16 * _MIB, values_max=1_000_000)
    template = _configured_template(config.get("chat_template"))
    if CHAT_TEMPLATE in files:
        template = _decode_template(folder.read(CHAT_TEMPLATE, bytes_max=TEMPLATE_BYTES_MAX))
    stated = read_fireworks_json(folder, files, template_bytes_max=TEMPLATE_BYTES_MAX)
    template = stated.template or template
    return ConversationFiles(
        template,
        stated.system,
        _special_tokens(config),
        names_remote_code="auto_map" in config,
        tool_parser=stated.tool_parser or detect_tool_parser(template or ""),
        reasoning_parser=stated.reasoning_parser or detect_reasoning_parser(template or ""),
        supports_tools=template is not None and ("tool" in template or stated.tool_parser is not None),
        warnings=stated.warnings,
    )


def _vocabulary_ids(model: object) -> list[Any]:
    match model:
        case {"vocab": dict() as by_token}:
            return list(by_token.values())
        case {"vocab": list() as in_order}:  # Unigram: position is id
            return list(range(len(in_order)))
    raise ModelRefused(RefusalReason.INVALID_TOKENIZER, "has no model with a vocabulary", TOKENIZER)


def _added_ids(added: object) -> list[Any]:
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise ModelRefused(RefusalReason.INVALID_TOKENIZER, "added_tokens is not a list of objects", TOKENIZER)
    return [token.get("id") for token in added]


def _decode_template(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelRefused(RefusalReason.INVALID_TOKENIZER, "is not UTF-8", CHAT_TEMPLATE) from error


def _configured_template(value: object) -> str | None:
    """A string, or a list of named ones of which `default` is taken."""
    if isinstance(value, list):
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
    if value is None:
        return None
    if not isinstance(value, str):
        raise ModelRefused(RefusalReason.INVALID_TOKENIZER, "chat_template is not text", TOKENIZER_CONFIG)
    if len(value.encode("utf-8")) > TEMPLATE_BYTES_MAX:
        message = f"chat_template is larger than {TEMPLATE_BYTES_MAX} bytes"
        raise ModelRefused(RefusalReason.TOO_LARGE, message, TOKENIZER_CONFIG)
    return value


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Each is written either as text or as an object with its text in `content`."""
    tokens = {}
    for name in _SPECIAL_TOKENS:
        match config.get(name):
            case str(text) | {"content": str(text)}:
                tokens[name] = text
    return tokens
