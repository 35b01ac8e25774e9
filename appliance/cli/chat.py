"""`hearth chat MODEL`: a conversation in the terminal, or one question for scripts."""

import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.output import print_error, print_json, print_note, printable, progress_line
from appliance.sdk.chat import ChatPiece, Message, Usage
from appliance.sdk.errors import SdkError, Unavailable

WAKE_TIMEOUT_S = 900.0
"""How long a sleeping model may take to load before the question is given up."""
RETRY_AFTER_S = 2.0
"""When the server does not say."""


class Conversation:
    """The messages so far; each question gets them all."""

    def __init__(
        self, session: Session, model: str, system: str | None, max_tokens: int | None, temperature: float | None
    ) -> None:
        self._session = session
        self.model = model
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._messages = [Message("system", system)] if system else []
        self.usage: Usage | None = None

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer's text. What was said before an interruption is remembered; a failed turn is not."""
        messages = [*self._messages, Message("user", question)]
        answer = ""
        try:
            for piece in self._pieces(messages):
                answer += piece.text
                self.usage = piece.usage or self.usage
                yield piece.text
        except SdkError:
            answer = ""
            raise
        finally:
            if answer:
                self._messages = [*messages, Message("assistant", answer)]

    def _pieces(self, messages: list[Message]) -> Iterator[ChatPiece]:
        """The answer's pieces; waits while the model is being loaded."""
        gives_up_at = time.monotonic() + WAKE_TIMEOUT_S
        with progress_line() as progress:
            while True:
                try:
                    for piece in self._session.client.chat.stream(
                        self.model, messages, max_tokens=self._max_tokens, temperature=self._temperature
                    ):
                        progress.hide()
                        yield piece
                    return
                except Unavailable as error:
                    pause_s = error.retry_after_s or RETRY_AFTER_S
                    if error.code != "DEPLOYMENT_SCALING_UP" or time.monotonic() + pause_s > gives_up_at:
                        raise
                    progress.show(error.message)
                    time.sleep(pause_s)


def chat(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model or deployment: id, or full name.")],
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Instruction that comes before the conversation.")
    ] = None,
    once: Annotated[str | None, typer.Option(metavar="TEXT", help="Ask this, print the answer, leave.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Longest answer, in tokens.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=2.0, metavar="X", help="0 always says the likeliest.")
    ] = None,
) -> None:
    """Talk with a model. Text piped in is one question.

    Ctrl-C stops an answer, Ctrl-D leaves.
    """
    conversation = Conversation(session, model, system, max_tokens, temperature)
    if once is None and sys.stdin.isatty():
        return _converse(conversation)
    question = once if once is not None else sys.stdin.read()
    if not question.strip():
        raise typer.BadParameter("there is no question: give --once TEXT, pipe text in, or use a terminal")
    if session.is_json:
        answer = "".join(conversation.ask(question))
        return print_json({"model": conversation.model, "answer": answer, "usage": conversation.usage})
    return _print_answer(conversation, question)


def _converse(conversation: Conversation) -> None:
    # Importing it gives input() line editing and history.
    import readline  # noqa: F401

    print_note(f"{conversation.model} · Ctrl-C stops an answer, Ctrl-D leaves")
    while True:
        try:
            question = input("> ")
            if question.strip():
                _print_answer(conversation, question)
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            print_note("stopped; Ctrl-D leaves")
        except SdkError as error:
            print_error(error.message)


def _print_answer(conversation: Conversation, question: str) -> None:
    for text in conversation.ask(question):
        sys.stdout.write(printable(text))
        sys.stdout.flush()
    sys.stdout.write("\n")


COMMANDS = [
    Command(
        "chat",
        None,
        chat,
        (
            "hearth chat ember-chat",
            'hearth chat ember-chat --system "Be brief." --once "What is a hearth?"',
        ),
    )
]
