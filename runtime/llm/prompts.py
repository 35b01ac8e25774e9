"""From what a client sent to the token ids that the engine computes: template, tokenizer, checks of the result.

The chat template runs in a process of its own (`models/rendering.py`); the tokenizer runs here, on texts that could
fit into the context.
"""

from pathlib import Path
from typing import NoReturn

import msgspec

from models.conversation import TemplateError
from models.folder import ModelFolder
from models.info import ModelInfo
from models.rendering import Renderer
from models.tokenizer_files import read_conversation_files
from runtime.engine import RequestRefused
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import ChatMessage, ChatPrompt, FailureCode, TextPrompt, TokenPrompt

SHRINKAGE_MAX = 4
"""A tokenizer's normaliser makes a text shorter by this factor at most, in characters."""


class Prompts:
    """`max_num_tokens`: longer prompts are refused."""

    def __init__(self, model_dir: Path, info: ModelInfo, vocabulary: Vocabulary, max_num_tokens: int) -> None:
        self._vocab_size = info.vocab_size
        self._vocabulary = vocabulary
        self._max_num_tokens = max_num_tokens
        self._bos_token_id = _find_bos_token_id(model_dir, vocabulary)
        self._renderer = Renderer(model_dir) if info.has_chat_template else None

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()

    def token_ids(self, prompt: ChatPrompt | TextPrompt | TokenPrompt) -> list[int]:
        """At least one id, each one the model knows; raises RequestRefused."""
        match prompt:
            case ChatPrompt(messages=messages):
                param = "messages"
                # The template has put the special tokens where they belong.
                token_ids = self._encode(self._render(messages), param, add_special_tokens=False)
            case TextPrompt(text=text):
                param = "prompt"
                token_ids = self._encode(text, param, add_special_tokens=True)
            case TokenPrompt(token_ids=token_ids):
                param = "prompt"
        if not token_ids:
            if self._bos_token_id is None:
                _refuse("the prompt is empty, and this model has no token to begin with", param)
            return [self._bos_token_id]
        if len(token_ids) > self._max_num_tokens:
            _refuse(self._too_long(f"{len(token_ids)} tokens"), param)
        if min(token_ids) < 0 or max(token_ids) >= self._vocab_size:
            _refuse(f"token ids must be between 0 and {self._vocab_size - 1}", param)
        return token_ids

    def _render(self, messages: list[ChatMessage]) -> str:
        if self._renderer is None:
            _refuse("this model has no chat template; it completes prompts only", "messages")
        try:
            return self._renderer.render([_template_message(message) for message in messages])
        except TemplateError as error:
            _refuse(str(error), "messages")

    def _encode(self, text: str, param: str, *, add_special_tokens: bool) -> list[int]:
        # Megabytes that cannot fit would hold up everybody else's text while they are tokenised.
        num_tokens_min = len(text) // (self._vocabulary.token_length_max * SHRINKAGE_MAX)
        if num_tokens_min > self._max_num_tokens:
            _refuse(self._too_long(f"{len(text)} characters, at least {num_tokens_min} tokens"), param)
        return self._vocabulary.encode(text, add_special_tokens=add_special_tokens)

    def _too_long(self, size: str) -> str:
        return f"prompt is too long: {size}, where at most {self._max_num_tokens} tokens fit beside an answer"


def _template_message(message: ChatMessage) -> dict[str, object]:
    """A message as chat templates know it: `content` is always there, arguments of calls are objects."""
    fields: dict[str, object] = {"role": message.role, "content": message.content}
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": _template_arguments(call.function.arguments)},
            }
            for call in message.tool_calls
        ]
    return fields


def _template_arguments(text: str) -> object:
    """An earlier answer's arguments may be anything that a model wrote; what is no object stays text."""
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError:
        return text


def _find_bos_token_id(model_dir: Path, vocabulary: Vocabulary) -> int | None:
    with ModelFolder(model_dir) as folder:
        files, _ = folder.list_entries()
        special_tokens = read_conversation_files(folder, files).special_tokens
    return vocabulary.token_id(special_tokens.get("bos_token", ""))


def _refuse(message: str, param: str) -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, message, param)
