"""How a model writes thoughts and calls, and which of its special tokens take part in that."""

from pathlib import Path

from models.folder import ModelFolder
from models.reasoning_parsers.dialects import REASONING_PARSERS
from models.tokenizer_files import read_conversation_files
from models.tool_parsers.dialects import TOOL_PARSERS
from models.tool_parsers.lark import literal
from runtime.llm.vocabulary import Vocabulary

_SWITCHES = ("enable_thinking", "thinking is defined")
_EFFORT = "reasoning_effort"


class Dialect:
    def __init__(self, template: str, tool_parser: str, reasoning_parser: str, vocabulary: Vocabulary) -> None:
        self.tool_parser = TOOL_PARSERS[tool_parser]
        self.thoughts = REASONING_PARSERS[reasoning_parser]
        self.can_switch_thinking = any(sign in template for sign in _SWITCHES)
        """Whether the template itself can do without thoughts."""
        self.knows_effort = _EFFORT in template
        self.markers = [*self.tool_parser.markers, *(self.thoughts or ())]
        self.thought_token_ids: tuple[list[int], list[int]] | None = None
        """What begins and what ends a thought."""
        if self.thoughts is not None:
            begin, end = (vocabulary.encode(marker, add_special_tokens=False) for marker in self.thoughts)
            self.thought_token_ids = begin, end
        special = {marker: vocabulary.special_token_id(marker) for marker in self.markers}
        self._special = {marker: token_id for marker, token_id in special.items() if token_id is not None}
        self._added_token_ids = vocabulary.added_token_ids

    @classmethod
    def load(cls, model_dir: Path, vocabulary: Vocabulary) -> "Dialect":
        with ModelFolder(model_dir) as folder:
            files, _ = folder.list_entries()
            found = read_conversation_files(folder, files)
        return cls(found.template or "", found.tool_parser, found.reasoning_parser, vocabulary)

    def token_ids(self, *, has_tools: bool) -> frozenset[int]:
        """Markers that are special tokens, of thoughts and (with tools) of calls."""
        markers = self.markers if has_tools else self.thoughts or ()
        return frozenset(self._special[marker] for marker in markers if marker in self._special)

    def terminal(self, marker: str) -> str:
        """A marker in a Lark grammar: the one token that it is, or its text.

        The grammar engine takes a token that was added to a vocabulary for no text, so that a model which is made to
        write the text must spell it in pieces that it never saw.
        """
        token_id = self._added_token_ids.get(marker)
        return literal(marker) if token_id is None else f"<[{token_id}]>"
