"""From what a client sent to the token ids that the engine computes: template, tokenizer, checks of the result.

The chat template runs in a process of its own (`models/rendering.py`); the tokenizer runs here, on texts that could
fit into the context.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from models.conversation import TemplateError
from models.folder import ModelFolder
from models.info import ModelInfo
from models.rendering import Renderer
from models.tokenizer_files import read_conversation_files
from runtime.engine import RequestRefused
from runtime.llm.chat import conversation_of, droppable, without
from runtime.llm.dialect import Dialect
from runtime.llm.plain_text import mark_names
from runtime.llm.request import PromptImage
from runtime.llm.vision.prompt_images import PromptImages, image_files
from runtime.llm.vocabulary import Vocabulary
from runtime.message import FailureCode
from runtime.submission import ChatMessage, ChatPrompt, TextPrompt, TokenPrompt

SHRINKAGE_MAX = 4
"""A tokenizer's normaliser makes a text shorter by this factor at most, in characters."""

BEGINNING_CHARACTERS = 128 * 1024
"""So much text is tokenised without asking whether it could fit: a tenth of a second's work, at worst."""


class EncodedPrompt(NamedTuple):
    token_ids: list[int]
    """At least one, each one the model knows."""
    is_thinking: bool = False
    """It ends inside a thought, which the answer goes on with."""
    images: Sequence[PromptImage] = ()
    """In the order of their placeholder tokens, of which there are as many as each fills."""


class _Rendered(NamedTuple):
    text: str
    mark: str | None
    """A character that is no part of the text."""
    images: Sequence[PromptImage] = ()
    """Those of its messages, without their places."""


def start_renderer(model_dir: Path, info: ModelInfo) -> Renderer | None:
    """It needs some tenths of a second before it can answer: start it early."""
    return Renderer(model_dir) if info.has_chat_template else None


class Prompts:
    """`max_num_tokens`: longer prompts are refused. `renderer`: the model's, if it has been started already."""

    def __init__(
        self,
        model_dir: Path,
        info: ModelInfo,
        vocabulary: Vocabulary,
        dialect: Dialect,
        max_num_tokens: int,
        renderer: Renderer | None = None,
    ) -> None:
        self._vocab_size = info.vocab_size
        self._vocabulary = vocabulary
        self._dialect = dialect
        self._max_num_tokens = max_num_tokens
        self._bos_token_id = _find_bos_token_id(model_dir, vocabulary)
        self._renderer = renderer or start_renderer(model_dir, info)
        self._images = PromptImages(info.vision, vocabulary, max_num_tokens) if info.vision is not None else None

    def close(self) -> None:
        if self._images is not None:
            self._images.close()
        if self._renderer is not None:
            self._renderer.close()

    def encode(self, prompt: ChatPrompt | TextPrompt | TokenPrompt) -> EncodedPrompt:
        """Raises RequestRefused."""
        is_thinking = False
        images: Sequence[PromptImage] = ()
        match prompt:
            case ChatPrompt():
                param = "messages"
                token_ids, is_thinking, images = self._chat(prompt)
            case TextPrompt(text=text, images=files):
                param = "prompt"
                self._check_length(text, param)
                token_ids, images = self._text(text, files)
            case TokenPrompt(token_ids=token_ids):
                param = "prompt"
        if not token_ids:
            if self._bos_token_id is None:
                _refuse("the prompt is empty, and this model has no token to begin with", param)
            return EncodedPrompt([self._bos_token_id])
        if len(token_ids) > self._max_num_tokens:
            _refuse(self._too_long(f"{len(token_ids)} tokens"), param)
        if min(token_ids) < 0 or max(token_ids) >= self._vocab_size:
            _refuse(f"token ids must be between 0 and {self._vocab_size - 1}", param)
        return EncodedPrompt(token_ids, is_thinking, images)

    def _text(self, text: str, files: list[bytes]) -> tuple[list[int], Sequence[PromptImage]]:
        seen = self._see(files, "images")
        if self._images is not None and seen:
            text = self._images.marked(text)
        token_ids = self._vocabulary.encode(text, add_special_tokens=True)
        return self._expand(token_ids, [seen[file] for file in files], "images")

    # ---- images

    def _see(self, files: list[bytes], param: str) -> dict[bytes, PromptImage]:
        """By file."""
        if not files:
            return {}
        if self._images is None:
            _refuse(f"{param}: this model does not take images", param)
        return dict(zip(files, self._images.see(files, param), strict=True))

    def _expand(
        self, token_ids: list[int], seen: Sequence[PromptImage], param: str
    ) -> tuple[list[int], Sequence[PromptImage]]:
        if self._images is None or not seen:
            return token_ids, ()
        return self._images.expand(token_ids, seen, param)

    # ---- chats

    def _chat(self, prompt: ChatPrompt) -> EncodedPrompt:
        seen = self._see(image_files(prompt.messages), "messages")
        rendered = self._render(prompt, prompt.messages, seen)
        if prompt.max_tokens is not None and not self._fits(rendered, prompt.max_tokens):
            rendered = self._shortened(prompt, prompt.max_tokens, seen)
        self._check_length(rendered.text, "messages")
        token_ids, images = self._encode(rendered)
        return EncodedPrompt(token_ids, self._is_thinking(rendered.text), images)

    def _shortened(self, prompt: ChatPrompt, max_tokens: int, seen: dict[bytes, PromptImage]) -> _Rendered:
        """The fewest turns left out that make it fit; if none do, all of them."""
        dropped = droppable(prompt.messages)
        fewest, most = min(1, len(dropped)), len(dropped)
        while fewest < most:
            middle = (fewest + most) // 2
            if self._fits(self._render(prompt, without(prompt.messages, dropped[:middle]), seen), max_tokens):
                most = middle
            else:
                fewest = middle + 1
        return self._render(prompt, without(prompt.messages, dropped[:most]), seen)

    def _fits(self, rendered: _Rendered, max_tokens: int) -> bool:
        return self._num_tokens_min(rendered.text) <= max_tokens and len(self._encode(rendered)[0]) <= max_tokens

    def _render(self, prompt: ChatPrompt, messages: Sequence[ChatMessage], seen: dict[bytes, PromptImage]) -> _Rendered:
        if self._renderer is None:
            _refuse("this model has no chat template; it completes prompts only", "messages")
        conversation = conversation_of(prompt, messages, self._dialect.tool_parser.call_id)
        mark = None
        if prompt.is_plain_text:
            names = {*self._vocabulary.special_tokens, *self._dialect.markers}
            try:
                conversation, mark = mark_names(conversation, names)
            except RecursionError:
                _refuse("the messages are nested too deeply", "messages")
        try:
            text = self._renderer.render(conversation)
        except TemplateError as error:
            _refuse(str(error), "messages")
        text = self._without_thinking(text) if prompt.reasoning.effort == "none" else text
        return _Rendered(text, mark, [seen[file] for file in image_files(messages)])

    def _encode(self, rendered: _Rendered) -> tuple[list[int], Sequence[PromptImage]]:
        # The template has put the special tokens where they belong.
        if rendered.mark is None:
            token_ids = self._vocabulary.encode(rendered.text, add_special_tokens=False)
        else:
            token_ids = self._vocabulary.encode_around(rendered.text, rendered.mark)
        return self._expand(token_ids, rendered.images, "messages")

    def _is_thinking(self, text: str) -> bool:
        thoughts = self._dialect.thoughts
        return thoughts is not None and text.rstrip().endswith(thoughts.begin)

    def _without_thinking(self, text: str) -> str:
        """With an empty thought, where the template did not see to it that there is none."""
        thoughts = self._dialect.thoughts
        if thoughts is None:
            return text
        if self._is_thinking(text):
            return f"{text.rstrip()}\n\n{thoughts.end}\n\n"
        if self._dialect.can_switch_thinking:
            return text
        return f"{text}{thoughts.begin}\n\n{thoughts.end}\n\n"

    # ---- lengths

    def _check_length(self, text: str, param: str) -> None:
        """Megabytes that cannot fit would hold up everybody else's text while they are tokenised."""
        if len(text) <= self._max_num_tokens:
            return  # it costs little to know for certain
        num_tokens_min = self._num_tokens_min(text)
        if num_tokens_min > self._max_num_tokens:
            _refuse(self._too_long(f"{len(text)} characters, at least {num_tokens_min} tokens"), param)

    def _num_tokens_min(self, text: str) -> int:
        """From below, at little cost: by the text's length, then by what ever longer beginnings of it come to."""
        num_tokens_min = len(text) // (self._vocabulary.token_length_max * SHRINKAGE_MAX)
        size = BEGINNING_CHARACTERS
        while num_tokens_min <= self._max_num_tokens and size < len(text):
            beginning = self._vocabulary.encode(text[:size], add_special_tokens=False)
            # By half: the word that the cut goes through may come to more tokens than the whole word.
            num_tokens_min = max(num_tokens_min, len(beginning) // 2)
            size *= 2
        return num_tokens_min

    def _too_long(self, size: str) -> str:
        return f"prompt is too long: {size}, where at most {self._max_num_tokens} tokens fit beside an answer"


def _find_bos_token_id(model_dir: Path, vocabulary: Vocabulary) -> int | None:
    with ModelFolder(model_dir) as folder:
        files, _ = folder.list_entries()
        special_tokens = read_conversation_files(folder, files).special_tokens
    return vocabulary.token_id(special_tokens.get("bos_token", ""))


def _refuse(message: str, param: str) -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, message, param)
