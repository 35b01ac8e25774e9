"""Grammars are compiled in a process that can be killed before the worker compiles them itself.

The process is `python -m runtime.llm.grammar.vetting PARENT_PID DIRECTORY VOCAB_SIZE [END_TOKEN_ID …]`: it says once
whether it can make the model's tokenizer, then answers each grammar with what is wrong with it, or with nothing. It
computes the first mask too, where lexers come into being. A compiler that loops, eats memory or overflows its stack
ends with that process. No numpy there, which may take more memory for itself than the process is given.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from models.framed_child import ChildLost, FramedChild, confine, read_frame, write_frame
from runtime.llm.grammar.engine_tokenizer import GrammarTokenizer, brief

START_TIMEOUT_S = 20.0
VET_TIMEOUT_S = 5.0
ADDRESS_SPACE_BYTES = 2 * 1024**3
_REPLY_BYTES_MAX = 4096


class GrammarRefused(Exception):
    """The message is for the client. `is_lasting`: it would be refused again."""

    def __init__(self, message: str, *, is_lasting: bool = True) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


class Vetter:
    """Starts its child when it is first needed. For one caller thread, which must outlast it."""

    def __init__(self, model_dir: Path, vocab_size: int, end_token_ids: Sequence[int]) -> None:
        arguments = [str(model_dir.absolute()), str(vocab_size), *map(str, end_token_ids)]
        self._child = FramedChild(__name__, arguments, reply_bytes_max=_REPLY_BYTES_MAX)

    def check(self, lark: str) -> None:
        """Raise GrammarRefused unless it compiles within its limits."""
        if not self._child.is_running:
            self._start()
        try:
            complaint = self._child.exchange(lark.encode(), VET_TIMEOUT_S).decode()
        except ChildLost as error:
            self._child.stop()
            raise GrammarRefused(f"it cannot be compiled within its limits: {error}", is_lasting=False) from error
        if complaint:
            raise GrammarRefused(complaint)

    def close(self) -> None:
        self._child.stop()

    def _start(self) -> None:
        try:
            self._child.start()
            complaint = self._child.exchange(None, START_TIMEOUT_S).decode()
        except ChildLost as error:
            self._child.stop()
            raise GrammarRefused(f"grammars cannot be compiled now: {error}", is_lasting=False) from error
        if complaint:
            self._child.stop()
            raise GrammarRefused(complaint)


# ---- the child


def main(parent_pid: int, directory: str, vocab_size: int, end_token_ids: list[int]) -> None:
    """Answer until stdin ends."""
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    confine(parent_pid, address_space_bytes=ADDRESS_SPACE_BYTES)
    try:
        tokenizer = GrammarTokenizer.load(Path(directory), vocab_size, end_token_ids)
    except (ValueError, OSError):
        write_frame(stdout, b"this model's tokenizer cannot be used with grammars")
        return
    write_frame(stdout, b"")
    while (lark := read_frame(stdin)) is not None:
        write_frame(stdout, complaint_about(lark.decode(), tokenizer).encode("utf-8", "replace")[:_REPLY_BYTES_MAX])


def complaint_about(lark: str, tokenizer: GrammarTokenizer) -> str:
    """What is wrong with a grammar; nothing when it can be used."""
    matcher = tokenizer.compile(lark)
    if matcher.is_error():
        return brief(matcher.get_error())
    mask = bytearray(matcher.compute_bitmask())
    if matcher.is_error():
        return brief(matcher.get_error())
    if not matcher.is_accepting():
        for token_id in tokenizer.end_token_ids:
            mask[token_id // 8] &= ~(1 << token_id % 8)
    return "" if any(mask) else "nothing that this model can write satisfies it"


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), [int(argument) for argument in sys.argv[4:]])
