"""Grammars compiled beside everything else: a thread of its own, a process that vets, a bounded memory of results.

The socket thread asks and never waits: what is not compiled yet is answered by Postponed, and asked for again when it
is there. So a grammar that takes seconds delays those that come behind it, and no other request. Nothing is made
before the first grammar comes; a worker without structured requests pays nothing.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from llguidance import LLMatcher

from runtime.engine import Postponed, RequestRefused
from runtime.llm.grammar.engine_tokenizer import GrammarTokenizer, brief
from runtime.llm.grammar.matcher import GrammarMatcher
from runtime.llm.grammar.vetting import GrammarRefused, Vetter
from runtime.llm.request import TokenConstraint
from runtime.message import FailureCode

logger = logging.getLogger(__name__)

GRAMMARS_MAX = 256
CHARACTERS_MAX = 16 * 1024 * 1024
"""Of all remembered grammars' texts together; what is compiled from them is a small multiple of that."""
PENDING_MAX = 64
_HEADER = '%llguidance {"no_forcing": true}\n'
"""Forced text is not computed ahead: for a grammar whose sentences never end that would never end either."""

MakeConstraint = Callable[[], TokenConstraint]
"""A constraint for one choice, at the beginning of its sentence."""


class _Compiled(NamedTuple):
    """`matcher` stays at the beginning; each choice gets a copy."""

    matcher: LLMatcher
    tokenizer: GrammarTokenizer

    def make(self) -> TokenConstraint:
        return GrammarMatcher(self.matcher.deep_copy(), self.tokenizer)


_Result = Future[_Compiled | GrammarRefused]


class GrammarCompiler:
    """For the socket thread. `vocab_size`: width of the logits."""

    def __init__(self, model_dir: Path, vocab_size: int, end_token_ids: Sequence[int]) -> None:
        self._arguments = (model_dir, vocab_size, list(end_token_ids))
        self._results: OrderedDict[str, _Result] = OrderedDict()
        """By the grammar's text, least recently used first."""
        self._num_characters = 0
        self._jobs: SimpleQueue[tuple[str, _Result] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def compile_lark(self, lark: str, param: str = "response_format") -> MakeConstraint:
        """Raises RequestRefused naming `param`, or Postponed while it is not compiled yet."""
        result = self._results.get(lark)
        if result is None:
            result = self._begin(lark)
        self._results.move_to_end(lark)
        if not result.done():
            raise Postponed(result)
        outcome = result.result()
        if isinstance(outcome, GrammarRefused):
            if not outcome.is_lasting:
                self._forget(lark)
            raise RequestRefused(FailureCode.INVALID, f"{param}: {outcome}", param)
        return outcome.make

    def close(self) -> None:
        """The thread ends by itself, after what it is at; its child ends with it."""
        self._jobs.put(None)

    @property
    def num_remembered(self) -> int:
        return len(self._results)

    def _begin(self, lark: str) -> _Result:
        if sum(not result.done() for result in self._results.values()) >= PENDING_MAX:
            raise RequestRefused(FailureCode.OVERLOADED, "too many grammars wait to be compiled", retry_after_s=1.0)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="grammars", daemon=True)
            self._thread.start()
        result: _Result = Future()
        self._results[lark] = result
        self._num_characters += len(lark)
        self._forget_oldest()
        self._jobs.put((lark, result))
        return result

    def _forget_oldest(self) -> None:
        for lark, result in list(self._results.items()):
            if len(self._results) <= GRAMMARS_MAX and self._num_characters <= CHARACTERS_MAX:
                return
            if result.done():
                self._forget(lark)

    def _forget(self, lark: str) -> None:
        del self._results[lark]
        self._num_characters -= len(lark)

    # ---- the thread

    def _run(self) -> None:
        vetter = Vetter(*self._arguments)
        tokenizer: GrammarTokenizer | None = None
        while (job := self._jobs.get()) is not None:
            lark, result = job
            try:
                text = lark if lark.startswith("%llguidance") else _HEADER + lark
                vetter.check(text)
                if tokenizer is None:
                    tokenizer = GrammarTokenizer.load(*self._arguments)
                result.set_result(_compile(text, tokenizer))
            except GrammarRefused as refusal:
                result.set_result(refusal)
            except Exception:
                # One request's grammar must never end the thread that serves all others.
                logger.exception("compiling a grammar failed")
                result.set_result(GrammarRefused("it cannot be compiled"))
        vetter.close()


def _compile(lark: str, tokenizer: GrammarTokenizer) -> _Compiled:
    matcher = tokenizer.compile(lark)
    if matcher.is_error():
        raise GrammarRefused(brief(matcher.get_error()))
    return _Compiled(matcher, tokenizer)
