"""Chat templates rendered in a child process, so that one which loops or eats memory can be killed.

The child (`python -m models.rendering PARENT_PID DIRECTORY`) says once whether the template compiled, then answers each
conversation with a text or an error. How it is started, talked to and confined stands in `framed_child.py`.
"""

import math
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from models.conversation import OUTPUT_CHARACTERS_MAX, Conversation, TemplateError
from models.framed_child import ChildLost, FramedChild, confine, read_frame, write_frame

if TYPE_CHECKING:
    from models.chat_template import ChatTemplate

RENDER_TIMEOUT_S = 2.0
START_TIMEOUT_S = 8.0
"""For the child to start and compile, counted from the first render that has to wait for it."""
COMPILE_CPU_S = 1
ADDRESS_SPACE_BYTES = 512 * 1024 * 1024
REQUEST_BYTES_MAX = 64 * 1024 * 1024

_REPLY_BYTES_MAX = 4 * OUTPUT_CHARACTERS_MAX + 4096  # a character takes at most four bytes


class _Reply(msgspec.Struct, array_like=True):
    text: str = ""
    error: str | None = None


_decode_reply = msgspec.msgpack.Decoder(_Reply).decode
_decode_conversation = msgspec.msgpack.Decoder(Conversation).decode


class Renderer:
    """Renders a model folder's chat template. For one caller thread that outlasts it; `close` ends the child."""

    def __init__(self, directory: Path) -> None:
        self._child = FramedChild("models.rendering", [str(directory.absolute())], reply_bytes_max=_REPLY_BYTES_MAX)
        self._refusal: str | None = None
        """Why this template will never render, as far as the child could say."""
        self._is_ready = False
        self._child.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def render(self, conversation: Conversation) -> str:
        """The prompt for this, ready for the assistant's turn; raises TemplateError within its deadlines."""
        try:
            request = msgspec.msgpack.encode(conversation)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:  # e.g. half of a surrogate pair
            raise TemplateError("the messages cannot be written as text") from error
        if len(request) > REQUEST_BYTES_MAX:
            raise TemplateError(f"the messages are larger than {REQUEST_BYTES_MAX} bytes")
        if not self._is_ready:
            self._await_ready()
        if self._refusal is not None:
            raise TemplateError(self._refusal)
        try:
            reply = self._exchange(request, RENDER_TIMEOUT_S)
        except ChildLost as error:
            self._restart()
            raise TemplateError(f"rendering the chat template failed: {error}") from error
        if reply.error is not None:
            raise TemplateError(reply.error)
        return reply.text

    def close(self) -> None:
        self._child.stop()

    def _restart(self) -> None:
        """In the background, for the next render; on a machine out of processes, that one tries again."""
        self._is_ready = False
        with suppress(ChildLost):
            self._child.start()

    def _await_ready(self) -> None:
        if not self._child.is_running:
            self._restart()
        try:
            self._refusal = self._exchange(None, START_TIMEOUT_S).error
        except ChildLost as error:
            if self._child.stop() != -signal.SIGXCPU:  # a busy machine; the next render may find a new child ready
                self._restart()
                raise TemplateError(f"the chat template's renderer did not start: {error}") from error
            self._refusal = "the chat template cannot be compiled within its limits"
        if self._refusal is not None:
            self._child.stop()
        self._is_ready = True

    def _exchange(self, request: bytes | None, timeout_s: float) -> _Reply:
        try:
            return _decode_reply(self._child.exchange(request, timeout_s))
        except msgspec.DecodeError as error:
            raise ChildLost("it gave no proper answer") from error


# ---- the child


def main(parent_pid: int, directory: str) -> None:
    """Answer until stdin ends."""
    confine(parent_pid, address_space_bytes=ADDRESS_SPACE_BYTES)
    _limit_processor_time(math.ceil(time.process_time()) + COMPILE_CPU_S)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    template, error = _load(Path(directory))
    write_frame(stdout, msgspec.msgpack.encode(_Reply(error=error)))
    _limit_processor_time(resource.RLIM_INFINITY)
    while template is not None and (frame := read_frame(stdin)) is not None:
        write_frame(stdout, msgspec.msgpack.encode(_answer(template, _decode_conversation(frame))))


def _load(directory: Path) -> "tuple[ChatTemplate | None, str | None]":
    """The template, or why there is none."""
    from models.chat_template import load_chat_template  # the child's; its parents never import a template language

    try:
        template = load_chat_template(directory)
    except TemplateError as error:
        return None, str(error)
    return template, None if template else "this model has no chat template"


def _answer(template: "ChatTemplate", conversation: Conversation) -> _Reply:
    try:
        text = template.render(conversation)
        text.encode("utf-8")
    except TemplateError as error:
        return _Reply(error=str(error).encode("utf-8", "replace").decode("utf-8"))
    except UnicodeEncodeError:
        return _Reply(error="the chat template wrote half of a surrogate pair")
    return _Reply(text=text)


def _limit_processor_time(seconds: int) -> None:
    """Until it is set again: rendering is timed by the parent, but compiling must not be tried twice."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
