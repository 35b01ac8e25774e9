"""A query and a document as one text whose score says how well the second answers the first, in two ways.

A cross-encoder reads the pair and has a head that scores it. A language model of Qwen3's reranking family is asked in
words, and the logits of yes and no are compared. Documents that are too long are cut at their end, queries refused.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.info import EmbeddingInfo
from runtime.embedding.request import Text
from runtime.embedding.texts import CHARACTERS_PER_TOKEN_MAX, Texts
from runtime.engine import RequestRefused
from runtime.message import FailureCode

# What the models of this family were trained to read, to the letter: other words would change their scores.
_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
_BEFORE = f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n<|im_start|>user\n"
_AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


class Pairs(Protocol):
    logit_token_ids: tuple[int, ...]
    """Whose logits make the score; none: the model scores by itself."""

    def encode(self, query: str, documents: Sequence[str], instruction: str) -> list[Text]:
        """Raises RequestRefused."""

    def scores(self, values: NDArray[np.float32]) -> list[float]:
        """Between 0 and 1, of the outputs of the model for each document."""


def make_pairs(directory: Path, info: EmbeddingInfo, texts: Texts) -> Pairs | None:
    """None: the model cannot rank."""
    if info.architecture.endswith("ForSequenceClassification"):
        return CrossEncoderPairs(texts, tells_apart=_tells_apart(directory, info))
    if info.true_token_id is not None:
        pairs = AskedPairs(texts, info)
        return pairs if pairs.is_understood else None
    return None


class CrossEncoderPairs:
    logit_token_ids: tuple[int, ...] = ()

    def __init__(self, texts: Texts, *, tells_apart: bool) -> None:
        self._tokenizer = texts.tokenizer
        self._num_tokens_max = texts.max_context_length
        self._tells_apart = tells_apart
        """Whether the model is told which text of the pair a token is of."""
        self._num_query_tokens_max = self._num_tokens_max - self._tokenizer.num_special_tokens_to_add(True) - 1
        self._num_characters_max = self._num_tokens_max * CHARACTERS_PER_TOKEN_MAX

    def encode(self, query: str, documents: Sequence[str], instruction: str) -> list[Text]:
        if instruction:
            raise RequestRefused(FailureCode.INVALID, "task: a cross-encoder takes no instruction", "task")
        _check_query(query, self._num_characters_max)
        num_query_tokens = len(self._tokenizer.encode(query, add_special_tokens=False).ids)
        if num_query_tokens > self._num_query_tokens_max:
            raise _too_long(num_query_tokens, self._num_query_tokens_max)
        shortened = [(query, document[: self._num_characters_max]) for document in documents]
        return [self._cut(encoding) for encoding in self._tokenizer.encode_batch(shortened)]

    def scores(self, values: NDArray[np.float32]) -> list[float]:
        return _sigmoid(values[:, 0])

    def _cut(self, encoding: Any) -> Text:
        """What is too much is taken from the document's end, before the special tokens behind it."""
        token_ids: list[int] = encoding.ids
        types: list[int] = encoding.type_ids if self._tells_apart else []
        excess = len(token_ids) - self._num_tokens_max
        if excess > 0:
            end = len(token_ids) - encoding.sequence_ids[::-1].index(1)
            token_ids = token_ids[: end - excess] + token_ids[end:]
            types = types[: end - excess] + types[end:]
        return Text(token_ids, second_start=types.index(1) if 1 in types else None)


class AskedPairs:
    def __init__(self, texts: Texts, info: EmbeddingInfo) -> None:
        self._tokenizer = texts.tokenizer
        asked = (info.true_token_id, info.false_token_id)
        self.logit_token_ids = tuple(token_id for token_id in asked if token_id is not None)
        marks = ("<|im_start|>", "<|im_end|>")
        self.is_understood = all(self._tokenizer.token_to_id(mark) is not None for mark in marks)
        """Whether the model's vocabulary has the marks that the question is asked with."""
        self._before, self._after = self._ids(_BEFORE), self._ids(_AFTER)
        self._num_tokens_max = texts.max_context_length - len(self._before) - len(self._after)
        self._num_characters_max = texts.max_context_length * CHARACTERS_PER_TOKEN_MAX

    def encode(self, query: str, documents: Sequence[str], instruction: str) -> list[Text]:
        _check_query(query + instruction, self._num_characters_max)
        opening = f"<Instruct>: {instruction or _INSTRUCTION}\n<Query>: {query}\n<Document>: "
        num_opening_tokens = len(self._ids(opening))
        if num_opening_tokens >= self._num_tokens_max:
            raise _too_long(num_opening_tokens, self._num_tokens_max - 1)
        pairs = [opening + document[: self._num_characters_max] for document in documents]
        encodings = self._tokenizer.encode_batch(pairs, add_special_tokens=False)
        return [Text(self._before + encoding.ids[: self._num_tokens_max] + self._after) for encoding in encodings]

    def scores(self, values: NDArray[np.float32]) -> list[float]:
        others = values[:, 1] if values.shape[1] > 1 else 0.0
        return _sigmoid(values[:, 0] - others)

    def _ids(self, text: str) -> list[int]:
        token_ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return token_ids


def _tells_apart(directory: Path, info: EmbeddingInfo) -> bool:
    """The tokenizer always knows which text a token is of; not all models were told."""
    name = "tokenizer_config.json"
    stated = json.loads((directory / name).read_bytes()) if name in info.file_sha256 else {}
    return "token_type_ids" in stated.get("model_input_names", ["token_type_ids"])


def _check_query(text: str, num_characters_max: int) -> None:
    if len(text) > num_characters_max:
        message = f"query: has {len(text)} characters, which is more than the model can read"
        raise RequestRefused(FailureCode.INVALID, message, "query")


def _too_long(num_tokens: int, num_tokens_max: int) -> RequestRefused:
    message = f"query: has {num_tokens} tokens; with room for a document, the model reads {num_tokens_max} at most"
    return RequestRefused(FailureCode.INVALID, message, "query")


def _sigmoid(logits: NDArray[np.float32]) -> list[float]:
    wide = logits.astype(np.float64)
    scores: list[float] = (0.5 * (1.0 + np.tanh(0.5 * wide))).tolist()  # never overflows
    return scores
