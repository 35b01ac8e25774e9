"""POST /embeddings: texts, token ids or objects in; a vector for each out, or the logits of chosen tokens."""

import asyncio
import base64
import struct
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import Any, Literal

import msgspec
from aiohttp import web

from appliance.api.codec import decode_json, ignored_fields, read_body
from appliance.api.data.calls import Running, run_call
from appliance.api.data.generation import IGNORED_FIELDS_HEADER, Count, TokenId, invalid, unsupported
from appliance.api.routing import Permission, Route, services
from appliance.config import LimitSettings
from appliance.errors import Code, HearthError
from appliance.services.embedding import Embedding, Texts, embed_by, embedding_demand, num_bytes_of
from appliance.services.prompt_template import PARAM as TEMPLATE
from appliance.services.prompt_template import Field, PromptTemplate
from runtime.tasks.embedding import Embedded

TEXT = "text"
"""What a template calls an input that is a string."""
IDLE_FIELDS = ("fanout_size", "prompt_cache_isolation_key")
"""They say how the work is spread, and who shares a cache that is none."""
FLOAT_BYTES = 4
WHOLE_BYTES_MAX = 512 * 1024
"""Vectors beyond it go out while they are written, and never stand in memory as text."""

Fields = dict[str, Field]


class EmbeddingBody(msgspec.Struct, kw_only=True):
    model: str
    input: str | Fields | list[str | TokenId | list[TokenId] | Fields]
    """The members of a list are all of one kind; `_texts` sees to it, for a type cannot say it."""
    prompt_template: str | None = None
    """`{{ field }}` or `{field}` stands for a field of an input; a string is its field `text`."""
    encoding_format: Literal["float", "base64"] | None = None
    """`base64`: of little-endian float32."""
    dimensions: Count | None = None
    """The first so many of each vector, brought back to its length."""
    normalize: bool | None = None
    """Vectors of length 1, and probabilities instead of logits; left out: as the model has it."""
    return_logits: list[TokenId] | None = None
    """Of these tokens after the text, instead of a vector; for decoders with a head."""
    fanout_size: Count | None = None
    stream: bool | None = None
    raw_output: bool | None = None
    perf_metrics_in_response: bool | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None


class EmbeddingAnswer(msgspec.Struct, kw_only=True):
    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingListEnd(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What follows the vectors."""

    model: str
    usage: EmbeddingUsage
    perf_metrics: dict[str, Any] | None = None


class EmbeddingList(EmbeddingListEnd, kw_only=True):
    data: list[EmbeddingAnswer]
    object: Literal["list"]


_encode = msgspec.json.Encoder().encode


async def create_embedding(request: web.Request) -> web.StreamResponse:
    """Turn one or several texts into vectors."""
    raw = await read_body(request)
    body = decode_json(raw, EmbeddingBody)
    asked = _to_embedding(body, services(request).config.limits)
    running = await run_call(
        request,
        model=body.model,
        make_task=embed_by(asked),
        demand=embedding_demand(asked),
        affinity_key=body.prompt_cache_key or body.user,
    )
    vectors = await _collect(running, len(asked.inputs))
    num_tokens = running.used.num_prompt_tokens
    end = EmbeddingListEnd(
        model=body.model,
        usage=EmbeddingUsage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        perf_metrics=running.figures() if body.perf_metrics_in_response else None,
    )
    parts = _render(vectors, end, is_base64=body.encoding_format == "base64")
    return await _send(request, parts, sum(map(len, vectors)), running.headers() | _ignored(raw, body))


def _to_embedding(body: EmbeddingBody, limits: LimitSettings) -> Embedding:
    if body.stream:
        raise invalid("stream", "vectors come as one answer")
    if body.raw_output:
        raise unsupported("raw_output")
    logit_token_ids = body.return_logits or []
    if body.return_logits is not None and not logit_token_ids:
        raise invalid("return_logits", "must name at least one token")
    if len(logit_token_ids) > limits.returned_logits_max:
        raise invalid("return_logits", f"must have at most {limits.returned_logits_max} tokens")
    if logit_token_ids and body.dimensions is not None:
        raise invalid("dimensions", "are those of a vector, which return_logits takes the place of")
    return Embedding(
        inputs=_texts(body, limits),
        num_dimensions=body.dimensions,
        is_normalized=body.normalize,
        logit_token_ids=logit_token_ids,
    )


def _texts(body: EmbeddingBody, limits: LimitSettings) -> Texts:
    """What is embedded: all strings, or all lists of token ids."""
    inputs = _members(body, limits)
    token_ids = [item for item in inputs.values() if isinstance(item, list)]
    texts: Texts = token_ids if token_ids else _strings(body, inputs, limits)
    for param, text in zip(inputs, texts, strict=True):
        if not text:
            raise invalid(param, "must not be empty")
    if num_bytes_of(texts) > limits.embedding_bytes_max:
        message = f"input: has more than {limits.embedding_bytes_max} bytes"
        raise HearthError(Code.TOO_LARGE, message, "input")
    return texts


def _members(body: EmbeddingBody, limits: LimitSettings) -> dict[str, str | list[int] | Fields]:
    """Each input by its place in the body."""
    if not isinstance(body.input, list):
        return {"input": body.input}
    if not body.input:
        raise invalid("input", "must not be empty")
    if len({type(item) for item in body.input}) > 1:
        kinds = "a list of strings, of token ids, of lists of token ids or of objects"
        raise invalid("input", f"must be a string, an object, or {kinds}")
    if isinstance(body.input[0], int):
        return {"input": [item for item in body.input if isinstance(item, int)]}
    if len(body.input) > limits.embedding_inputs_max:
        raise invalid("input", f"must have at most {limits.embedding_inputs_max} inputs")
    return {f"input[{index}]": item for index, item in enumerate(body.input) if not isinstance(item, int)}


def _strings(body: EmbeddingBody, inputs: Mapping[str, str | list[int] | Fields], limits: LimitSettings) -> list[str]:
    template = _template(body.prompt_template, limits)
    texts = []
    room = limits.embedding_bytes_max
    for param, item in inputs.items():
        if template is not None and not isinstance(item, list):
            filled = template.fill({TEXT: item} if isinstance(item, str) else item, param, room)
            room -= len(filled)
            texts.append(filled)
        elif isinstance(item, str):
            texts.append(item)
        else:
            raise invalid(param, f"an object needs a {TEMPLATE}, which says what to make of its fields")
    return texts


def _template(text: str | None, limits: LimitSettings) -> PromptTemplate | None:
    if text is None:
        return None
    if len(text) > limits.prompt_template_length_max:
        raise invalid(TEMPLATE, f"must have at most {limits.prompt_template_length_max} characters")
    return PromptTemplate(text)


def _ignored(raw: bytes, body: EmbeddingBody) -> dict[str, str]:
    idle = [name for name in IDLE_FIELDS if getattr(body, name) is not None]
    names = [name for name in (ignored_fields(raw, EmbeddingBody), *idle) if name]
    return {IGNORED_FIELDS_HEADER: ", ".join(names)} if names else {}


async def _collect(running: Running, num_inputs: int) -> list[bytes]:
    """A row of little-endian float32 for each input."""
    rows: list[bytes] = [b""] * num_inputs
    async with aclosing(running.pieces()) as pieces:
        async for piece in pieces:
            assert isinstance(piece, Embedded)
            row_bytes = FLOAT_BYTES * piece.num_columns
            for offset in range(0, len(piece.values), row_bytes):
                rows[piece.first_index + offset // row_bytes] = piece.values[offset : offset + row_bytes]
    if not all(rows):
        raise HearthError(Code.INTERNAL, "the answer ended before it was complete")
    return rows


def _render(vectors: list[bytes], end: EmbeddingListEnd, is_base64: bool) -> Iterator[bytes]:
    yield b'{"object":"list","data":['
    for index, vector in enumerate(vectors):
        shown = base64.b64encode(vector).decode() if is_base64 else list(_floats(vector))
        yield (b"," if index else b"") + _encode(EmbeddingAnswer(index=index, embedding=shown))
    yield b"]," + _encode(end)[1:]


def _floats(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // FLOAT_BYTES}f", vector)


async def _send(
    request: web.Request, parts: Iterator[bytes], num_bytes: int, headers: dict[str, str]
) -> web.StreamResponse:
    if num_bytes <= WHOLE_BYTES_MAX:
        return web.Response(body=b"".join(parts), content_type="application/json", headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/json"
    await response.prepare(request)
    for part in parts:
        await response.write(part)
        await asyncio.sleep(0)  # a client that reads fast would keep all others waiting
    return response


ROUTES = [
    Route(
        "POST",
        "/inference/v1/embeddings",
        create_embedding,
        Permission.INFER,
        EmbeddingBody,
        answer=EmbeddingList,
    ),
]
