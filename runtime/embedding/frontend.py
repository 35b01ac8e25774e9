"""The socket thread's half of the embedding engine: tasks become token ids, outputs become pieces.

Nothing of a task reaches the engine unchecked. Remembers each request until it is answered or its client has left;
never touches the engine or the device.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np

from models.info import EmbeddingInfo
from runtime.embedding.answer import embedded_pieces, scored_pieces
from runtime.embedding.request import EmbeddingRequest, RowOutput, Text
from runtime.embedding.scoring import Pairs
from runtime.embedding.texts import Texts
from runtime.engine import Frontend, LoadRefused, Postponed, Rendered, RequestRefused
from runtime.message import FailureCode
from runtime.protocol import AnyPiece, Failed, LoadAdapter
from runtime.tasks.embedding import Embed, Score

logger = logging.getLogger(__name__)

LONG_CHARACTERS = 100_000
"""Some tens of milliseconds of tokenising, in which nobody else would be heard."""


class _Call:
    """One task between its arrival and its answer."""

    def __init__(self, task: Embed | Score, texts: Sequence[Text]) -> None:
        self.task = task
        self.num_tokens = [text.num_tokens for text in texts]
        self.outputs: list[RowOutput] = []

    def is_complete(self) -> bool:
        return len(self.outputs) == len(self.num_tokens)

    def matrix(self) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
        return np.stack([output.values for output in sorted(self.outputs, key=lambda output: output.text_index)])


class EmbeddingFrontend(Frontend[Embed | Score, EmbeddingRequest, RowOutput]):
    """`pairs`: None where the model cannot rank; `has_head`: whether it can tell the logits of tokens."""

    task_types = (Embed, Score)

    def __init__(self, info: EmbeddingInfo, texts: Texts, pairs: Pairs | None, *, has_head: bool) -> None:
        self._info = info
        self._texts = texts
        self._pairs = pairs
        self._has_head = has_head
        self._calls: dict[str, _Call] = {}
        self._encoding: dict[str, Future[list[Text]]] = {}
        """Of long tasks."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    def prepare(self, task: Embed | Score) -> EmbeddingRequest:
        encoding = self._encoding.pop(task.request_id, None)
        if encoding is not None:
            return self._begin(task, encoding.result())
        if task.request_id in self._calls:
            raise RequestRefused(FailureCode.INVALID, "this request id is in use")
        if task.adapter:
            raise RequestRefused(FailureCode.NOT_FOUND, "the addon is not loaded here", "model")
        encode = self._check_embed(task) if isinstance(task, Embed) else self._check_score(task)
        if _num_characters(task) <= LONG_CHARACTERS:
            return self._begin(task, encode())
        encoding = self._encoding[task.request_id] = self._thread.submit(encode)
        raise Postponed(encoding)

    def render(self, outputs: list[RowOutput]) -> Rendered:
        pieces: list[AnyPiece] = []
        failures: list[Failed] = []
        for output in outputs:
            call = self._calls.get(output.request_id)
            if call is None:
                continue  # its client has left
            call.outputs.append(output)
            if call.is_complete():
                del self._calls[output.request_id]
                try:
                    pieces += self._answer(call)
                except Exception:
                    # One request must never end the worker; the trace is for the operator.
                    logger.exception("answering request %s failed", output.request_id)
                    message = "the answer could not be put together"
                    failures.append(Failed(request_id=output.request_id, code=FailureCode.INTERNAL, message=message))
        return Rendered(deltas=[], failures=failures, finished=[], pieces=pieces)

    def forget(self, request_id: str) -> None:
        self._calls.pop(request_id, None)
        encoding = self._encoding.pop(request_id, None)
        if encoding is not None:
            encoding.cancel()

    def load_adapter(self, load: LoadAdapter) -> Future[None]:
        refused: Future[None] = Future()
        refused.set_exception(LoadRefused("embedding models are served without addons"))
        return refused

    def unload_adapter(self, adapter: str) -> None:
        """None was ever loaded."""

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _check_embed(self, embed: Embed) -> Callable[[], list[Text]]:
        if not embed.inputs:
            raise RequestRefused(FailureCode.INVALID, "input: is empty", "input")
        if embed.logit_token_ids:
            if not self._has_head:
                message = "return_logits: the model has no head that tells the logits of tokens"
                raise RequestRefused(FailureCode.INVALID, message, "return_logits")
            if not all(0 <= token_id < self._info.vocab_size for token_id in embed.logit_token_ids):
                message = f"return_logits: a token id is not in the vocabulary of {self._info.vocab_size}"
                raise RequestRefused(FailureCode.INVALID, message, "return_logits")
        elif self._info.pooling == "none":
            raise RequestRefused(FailureCode.INVALID, "the model scores documents; it makes no vectors", "model")
        num_dimensions = embed.num_dimensions
        if num_dimensions is not None and not 1 <= num_dimensions <= self._info.num_dimensions:
            message = f"dimensions: the model's vectors have {self._info.num_dimensions}, not {num_dimensions}"
            raise RequestRefused(FailureCode.INVALID, message, "dimensions")
        return partial(self._texts.encode, embed.inputs, self._texts.prompt(embed.prompt_name))

    def _check_score(self, score: Score) -> Callable[[], list[Text]]:
        if self._pairs is None:
            message = "the model makes vectors; to rank documents takes a cross-encoder or a Qwen3 reranker"
            raise RequestRefused(FailureCode.INVALID, message, "model")
        if not score.documents:
            raise RequestRefused(FailureCode.INVALID, "documents: is empty", "documents")
        return partial(self._pairs.encode, score.query, score.documents, score.instruction)

    def _begin(self, task: Embed | Score, texts: list[Text]) -> EmbeddingRequest:
        if isinstance(task, Embed):
            logit_token_ids = tuple(task.logit_token_ids)
        else:
            assert self._pairs is not None, "it has encoded the texts"
            logit_token_ids = self._pairs.logit_token_ids
        self._calls[task.request_id] = _Call(task, texts)
        return EmbeddingRequest(task.request_id, task.tenant, texts, logit_token_ids)

    def _answer(self, call: _Call) -> Sequence[AnyPiece]:
        matrix = call.matrix()
        if isinstance(call.task, Embed):
            return embedded_pieces(call.task, matrix, self._info.is_normalized, call.num_tokens)
        assert self._pairs is not None, "it has encoded the texts"
        return scored_pieces(call.task.request_id, self._pairs.scores(matrix), call.num_tokens)


def _num_characters(task: Embed | Score) -> int:
    """To be tokenised; token ids are ready, but for a look at each."""
    if isinstance(task, Embed):
        return sum(map(len, task.inputs))
    return sum(map(len, task.documents)) + (len(task.query) + len(task.instruction)) * len(task.documents)
