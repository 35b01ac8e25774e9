"""POST /rerank: documents in, the most relevant first out, in the shapes of both generations of clients."""

from contextlib import aclosing
from typing import Any, Literal

import msgspec
from aiohttp import web

from appliance.api.codec import decode_json, ignored_fields, json_response, read_body
from appliance.api.data.calls import Running, run_call
from appliance.api.data.embeddings import EmbeddingUsage
from appliance.api.data.generation import IGNORED_FIELDS_HEADER, Count, invalid
from appliance.api.routing import Permission, Route, services
from appliance.config import LimitSettings
from appliance.errors import Code, HearthError
from appliance.services.embedding import Ranking, num_bytes_of, ranking_demand, score_by
from runtime.tasks.embedding import Scored

DEFAULT_MODEL = "fireworks/qwen3-reranker-8b"
"""Of the API that we speak; it is there when somebody put it into the library."""


class RerankBody(msgspec.Struct, kw_only=True):
    query: str
    documents: list[str]
    model: str = DEFAULT_MODEL
    top_n: Count | None = None
    """So many of the best; left out: all."""
    return_documents: bool | None = None
    """Whether their texts come back; left out: they do."""
    task: str | None = None
    """What makes a document a good one, for models that can be told."""
    stream: bool | None = None
    perf_metrics_in_response: bool | None = None
    user: str | None = None


class RankedDocument(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the documents of the API describe."""

    index: int
    relevance_score: float
    document: str | None = None


class RankedText(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What older clients read."""

    index: int
    relevance_score: float
    text: str | None = None


class RerankAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The same ranking twice, the best first."""

    object: Literal["list"]
    model: str
    data: list[RankedDocument]
    results: list[RankedText]
    usage: EmbeddingUsage
    perf_metrics: dict[str, Any] | None = None


async def create_rerank(request: web.Request) -> web.StreamResponse:
    """Order documents by how well they answer a query."""
    raw = await read_body(request)
    body = decode_json(raw, RerankBody)
    asked = _to_ranking(body, services(request).config.limits)
    running = await run_call(
        request,
        model=body.model,
        make_task=score_by(asked),
        demand=ranking_demand(asked),
        affinity_key=body.user,
    )
    scores = await _collect(running, len(asked.documents))
    best = _best(scores, body.top_n)
    shown = body.documents if body.return_documents is not False else [None] * len(scores)
    num_tokens = running.used.num_prompt_tokens
    answer = RerankAnswer(
        object="list",
        model=body.model,
        data=[RankedDocument(index=i, relevance_score=scores[i], document=shown[i]) for i in best],
        results=[RankedText(index=i, relevance_score=scores[i], text=shown[i]) for i in best],
        usage=EmbeddingUsage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        perf_metrics=running.figures() if body.perf_metrics_in_response else None,
    )
    names = ignored_fields(raw, RerankBody)
    return json_response(answer, running.headers() | ({IGNORED_FIELDS_HEADER: names} if names else {}))


def _to_ranking(body: RerankBody, limits: LimitSettings) -> Ranking:
    if body.stream:
        raise invalid("stream", "a ranking comes as one answer")
    if not body.query:
        raise invalid("query", "must not be empty")
    if not body.documents:
        raise invalid("documents", "must not be empty")
    if len(body.documents) > limits.rerank_documents_max:
        raise invalid("documents", f"must have at most {limits.rerank_documents_max} documents")
    for index, document in enumerate(body.documents):
        if not document:
            raise invalid(f"documents[{index}]", "must not be empty")
    task = body.task or ""
    if num_bytes_of([body.query, task, *body.documents]) > limits.embedding_bytes_max:
        message = f"documents: have more than {limits.embedding_bytes_max} bytes together with the query"
        raise HearthError(Code.TOO_LARGE, message, "documents")
    return Ranking(query=body.query, documents=body.documents, instruction=task)


async def _collect(running: Running, num_documents: int) -> list[float]:
    """A score for each document."""
    scores: list[float | None] = [None] * num_documents
    async with aclosing(running.pieces()) as pieces:
        async for piece in pieces:
            assert isinstance(piece, Scored)
            scores[piece.first_index : piece.first_index + len(piece.scores)] = piece.scores
    known = [score for score in scores if score is not None]
    if len(known) != num_documents:
        raise HearthError(Code.INTERNAL, "the answer ended before it was complete")
    return known


def _best(scores: list[float], top_n: int | None) -> list[int]:
    """Their indexes; of equal ones the earlier first."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])[:top_n]


ROUTES = [
    Route("POST", "/inference/v1/rerank", create_rerank, Permission.INFER, RerankBody, answer=RerankAnswer),
]
