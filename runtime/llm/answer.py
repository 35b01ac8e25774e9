"""One choice's text, told apart into thoughts, words and calls while it comes.

Only chats are read so; a completion is all text. Calls are read only where tools were offered: without them, what
looks like a call is text.
"""

from hashlib import blake2b

from models.reasoning_parsers.parser import ReasoningParser, Thought
from models.text_reader import Text
from models.tool_parsers.parser import Arguments, CallBegins, CallEnds, Event, ToolParser
from runtime.llm.dialect import Dialect
from runtime.llm.prompts import EncodedPrompt
from runtime.protocol import ToolCallDelta
from runtime.submission import ChatPrompt, TextPrompt, TokenPrompt

_CALL_ID_BYTES = 12


class Answer:
    """`add` text as it comes, `finish` once; what has come of it is in `text`, `reasoning` and `calls` until taken."""

    def __init__(
        self, choice_id: str, thoughts: ReasoningParser | None, calls: ToolParser | None, *, is_parallel: bool
    ) -> None:
        self.text = ""
        self.reasoning = ""
        self.calls: list[ToolCallDelta] = []
        self.num_calls = 0
        self.is_complete = False
        """The one call that was allowed is there; what follows is nobody's business."""
        self._choice_id = choice_id
        self._thoughts = thoughts
        self._calls = calls
        self._is_parallel = is_parallel

    @property
    def may_be_thinking(self) -> bool:
        return self._thoughts is not None and not self._thoughts.is_over

    @property
    def is_thinking(self) -> bool:
        return self._thoughts is not None and self._thoughts.is_thinking

    @property
    def num_thought_characters(self) -> int:
        """Of a thought that has ended, markers included."""
        return 0 if self._thoughts is None else self._thoughts.num_thought_characters

    def add(self, text: str) -> None:
        if self._thoughts is None:
            self._say(text)
        else:
            self._tell_apart(self._thoughts.feed(text))

    def finish(self) -> None:
        if self._thoughts is not None:
            self._tell_apart(self._thoughts.finish())
        if self._calls is not None:
            self._apply(self._calls.finish())

    def take(self) -> tuple[str, str, list[ToolCallDelta]]:
        """Text, thoughts and calls since the last time."""
        taken = self.text, self.reasoning, self.calls
        self.text, self.reasoning, self.calls = "", "", []
        return taken

    def _tell_apart(self, pieces: list[Thought | Text]) -> None:
        for piece in pieces:
            if isinstance(piece, Thought):
                self.reasoning += piece.text
            else:
                self._say(piece.text)

    def _say(self, text: str) -> None:
        if self._calls is None:
            self.text += text
        else:
            self._apply(self._calls.feed(text))

    def _apply(self, events: list[Event]) -> None:
        for event in events:
            if self.is_complete:
                return
            match event:
                case Text(text):
                    self.text += text
                case CallBegins(name):
                    self.calls.append(ToolCallDelta(index=self.num_calls, id=self._call_id(), name=name))
                    self.num_calls += 1
                case Arguments(text):
                    self.calls.append(ToolCallDelta(index=self.num_calls - 1, arguments=text))
                case CallEnds():
                    self.is_complete = not self._is_parallel

    def _call_id(self) -> str:
        assert self._calls is not None
        digest = blake2b(f"{self._choice_id}/{self.num_calls}".encode(), digest_size=_CALL_ID_BYTES)
        return self._calls.call_id(f"call_{digest.hexdigest()}")


class AnswerReading:
    """How the answers to one prompt are read; each choice has an Answer of its own."""

    def __init__(self, dialect: Dialect, prompt: ChatPrompt | TextPrompt | TokenPrompt, encoded: EncodedPrompt) -> None:
        self._is_chat = isinstance(prompt, ChatPrompt)
        self._dialect = dialect
        self._is_thinking = encoded.is_thinking
        self._names: frozenset[str] = frozenset()
        self._is_parallel = True
        if isinstance(prompt, ChatPrompt) and prompt.tool_choice.mode != "none":
            self._names = frozenset(tool.name for tool in prompt.tools)
            self._is_parallel = prompt.tool_choice.is_parallel

    @property
    def shown_token_ids(self) -> frozenset[int]:
        """Special tokens that the parsers must see as text."""
        if not self._is_chat:
            return frozenset()
        return self._dialect.token_ids(has_tools=bool(self._names))

    def begin(self, choice_id: str) -> Answer:
        thoughts, calls = None, None
        if self._is_chat and self._dialect.thoughts is not None:
            thoughts = ReasoningParser(self._dialect.thoughts, is_thinking=self._is_thinking)
        if self._names:
            calls = self._dialect.tool_parser(self._names)
        return Answer(choice_id, thoughts, calls, is_parallel=self._is_parallel)
