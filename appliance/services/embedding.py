"""What is asked of models that make vectors of texts or rank documents: which of them can do it, and what it may use.

Knows no wire format but the names of its fields, and runs nothing.
"""

from collections.abc import Callable, Sequence

import msgspec

from appliance.errors import Code, HearthError
from appliance.services.demands import Demand
from appliance.services.prompt_size import BYTES_PER_TOKEN, PromptSize
from appliance.services.targets import Target
from models.info import EmbeddingInfo
from runtime.tasks.embedding import Embed, Score

MARK_TOKENS = 4
"""What a tokeniser puts around a text or a pair."""
TEMPLATE_TOKENS = 128
"""What a language model is told around a pair that it ranks."""

Texts = Sequence[str | list[int]]
"""All of one kind."""


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """None is "not said": as the model has it."""

    inputs: Texts
    num_dimensions: int | None = None
    is_normalized: bool | None = None
    logit_token_ids: list[int] = []


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    query: str
    documents: list[str]
    instruction: str = ""


def embed_by(asked: Embedding) -> Callable[[Target], Embed]:
    """Raises `invalid` once the model is known, for what it cannot do."""
    return lambda target: _to_embed(asked, target)


def score_by(asked: Ranking) -> Callable[[Target], Score]:
    """Likewise."""
    return lambda target: _to_score(asked, target)


def embedding_demand(asked: Embedding) -> Demand:
    num_bytes, num_tokens = _bytes_and_tokens(asked.inputs)
    marks = MARK_TOKENS * sum(isinstance(item, str) for item in asked.inputs)
    return Demand(PromptSize(-(-num_bytes // BYTES_PER_TOKEN) + num_tokens + marks, num_bytes + num_tokens + marks))


def ranking_demand(asked: Ranking) -> Demand:
    """The model reads the query with every document."""
    beside = sum(len(text.encode()) for text in (asked.query, asked.instruction))
    num_bytes = num_bytes_of(asked.documents) + beside * len(asked.documents)
    num_pairs = len(asked.documents)
    likely = -(-num_bytes // BYTES_PER_TOKEN) + MARK_TOKENS * num_pairs
    return Demand(PromptSize(likely, num_bytes + TEMPLATE_TOKENS * num_pairs))


def num_bytes_of(texts: Texts) -> int:
    """As they reach the model; a token counts like the text that it commonly stands for."""
    num_bytes, num_tokens = _bytes_and_tokens(texts)
    return num_bytes + BYTES_PER_TOKEN * num_tokens


def _to_embed(asked: Embedding, target: Target) -> Embed:
    info = _info(target, "makes no embeddings; a decoder does when it is created with kind EMBEDDING_MODEL")
    if asked.logit_token_ids:
        _check_logits(asked, target, info)
    elif info.pooling == "none":
        message = f"model: {target.model.name} ranks documents and makes no embeddings: ask /v1/rerank"
        raise HearthError(Code.INVALID, message, "model")
    if asked.num_dimensions is not None and asked.num_dimensions > info.num_dimensions:
        message = f"dimensions: must be at most {info.num_dimensions}, which the vectors of this model have"
        raise HearthError(Code.INVALID, message, "dimensions")
    _check_tokens(asked.inputs, target, info)
    return Embed(
        request_id="",  # filled in by `Inference`
        inputs=[*asked.inputs],
        num_dimensions=asked.num_dimensions,
        is_normalized=asked.is_normalized,
        logit_token_ids=asked.logit_token_ids,
    )


def _to_score(asked: Ranking, target: Target) -> Score:
    info = _info(target, "does not rank documents; a decoder may when it is created with kind EMBEDDING_MODEL")
    is_cross_encoder = info.pooling == "none" and not info.is_decoder
    if not is_cross_encoder and info.true_token_id is None:
        message = f"model: {target.model.name} makes embeddings and does not rank documents"
        raise HearthError(Code.INVALID, message, "model")
    if asked.instruction and is_cross_encoder:
        message = f"task: {target.model.name} knows one task only and cannot be told of another"
        raise HearthError(Code.INVALID, message, "task")
    return Score(request_id="", query=asked.query, documents=asked.documents, instruction=asked.instruction)


def _info(target: Target, failing: str) -> EmbeddingInfo:
    info = target.model.info
    if not isinstance(info, EmbeddingInfo):
        raise HearthError(Code.INVALID, f"model: {target.model.name} {failing}", "model")
    return info


def _check_logits(asked: Embedding, target: Target, info: EmbeddingInfo) -> None:
    if not info.has_head:
        message = f"return_logits: {target.model.name} has no logits of tokens"
        raise HearthError(Code.INVALID, message, "return_logits")
    _check_token_ids(asked.logit_token_ids, "return_logits", info)


def _check_tokens(inputs: Texts, target: Target, info: EmbeddingInfo) -> None:
    """Of text only the worker knows them."""
    context = target.deployment.max_context_length or info.max_context_length
    for index, item in enumerate(inputs):
        if isinstance(item, str):
            return
        param = f"input[{index}]" if len(inputs) > 1 else "input"
        if len(item) > context:
            message = f"{param}: has {len(item)} tokens, where this model takes {context}: the prompt is too long"
            raise HearthError(Code.INVALID, message, param)
        _check_token_ids(item, param, info)


def _check_token_ids(token_ids: Sequence[int], param: str, info: EmbeddingInfo) -> None:
    highest = max(token_ids)
    if highest >= info.vocab_size:
        message = f"{param}: token id {highest} is outside of the model's vocabulary"
        raise HearthError(Code.INVALID, message, param)


def _bytes_and_tokens(texts: Texts) -> tuple[int, int]:
    num_bytes = sum(len(item.encode()) for item in texts if isinstance(item, str))
    return num_bytes, sum(len(item) for item in texts if not isinstance(item, str))
