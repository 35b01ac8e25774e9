"""Every form of an input, what comes back, and what is refused by name."""

import asyncio
import base64
import struct
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from appliance.api.data.embeddings import EmbeddingList
from appliance.config import Config
from appliance.domain import Role
from runtime.message import Used
from runtime.protocol import AnyPiece
from runtime.tasks.embedding import Embed, Embedded
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.control.test_usage import USAGE, get, window
from tests.appliance.api.data.embedders import make_models, post
from tests.fakes.scripted_tasks import EMBEDDING_VOCAB_SIZE, NUM_DIMENSIONS, NUM_TOKENS, vector_of
from tests.waiting import until

EMBEDDINGS = "/inference/v1/embeddings"
TEMPLATE = "title: {{ title }} | {text}"


@pytest.fixture
def config(config: Config) -> Config:
    return replace(config, limits=replace(config.limits, embedding_bytes_max=100_000))


@pytest.fixture
async def models(api: Api) -> dict[str, str]:
    return await make_models(api)


async def embed(api: Api, model: str, given: Any, **fields: Any) -> tuple[int, Any, dict[str, str]]:
    return await post(api, EMBEDDINGS, {"model": model, "input": given, **fields})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["a", "b", "c"], ["a", "b", "c"]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
async def test_each_input_comes_back_as_one_vector(api: Api, models: dict[str, str], given: Any, sent: Any) -> None:
    status, answer, _ = await embed(api, models["embedder"], given)
    assert status == 200, answer
    (task,) = api.router.tasks
    assert isinstance(task, Embed)
    assert task.inputs == sent
    num_tokens = NUM_TOKENS * len(sent)
    assert answer == {
        "object": "list",
        "model": models["embedder"],
        "data": [{"object": "embedding", "index": index, "embedding": vector_of(index)} for index in range(len(sent))],
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    msgspec.convert(answer, EmbeddingList)


async def test_base64_is_of_little_endian_float32(api: Api, models: dict[str, str]) -> None:
    _, answer, _ = await embed(api, models["embedder"], ["a", "b"], encoding_format="base64")
    values = [struct.unpack(f"<{NUM_DIMENSIONS}f", base64.b64decode(row["embedding"])) for row in answer["data"]]
    assert values == [tuple(vector_of(0)), tuple(vector_of(1))]


async def test_an_answer_too_large_to_stand_in_memory_as_text_is_the_same(api: Api, models: dict[str, str]) -> None:
    logits = [1] * 512
    status, answer, headers = await embed(api, models["decoder"], ["a"] * 300, return_logits=logits)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert [row["index"] for row in answer["data"]] == list(range(300))
    assert answer["data"][299]["embedding"] == vector_of(299, 512)
    assert answer["usage"]["total_tokens"] == 300 * NUM_TOKENS


async def test_options_reach_the_worker(api: Api, models: dict[str, str]) -> None:
    _, answer, _ = await embed(api, models["embedder"], "a", dimensions=2, normalize=True)
    assert answer["data"][0]["embedding"] == vector_of(0, 2)
    await embed(api, models["embedder"], "a")
    await embed(api, models["decoder"], "a", return_logits=[3, 5], normalize=True)
    asked = [task for task in api.router.tasks if isinstance(task, Embed)]
    assert [(task.num_dimensions, task.is_normalized, task.logit_token_ids) for task in asked] == [
        (2, True, []),
        (None, None, []),
        (None, True, [3, 5]),
    ]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"title": "T", "text": "a"}, ["title: T | a"]),
        ([{"title": "T", "text": "a"}, {"title": 2, "text": True, "more": None}], ["title: T | a", "title: 2 | true"]),
    ],
)
async def test_objects_fill_the_template(api: Api, models: dict[str, str], given: Any, sent: list[str]) -> None:
    status, answer, _ = await embed(api, models["embedder"], given, prompt_template=TEMPLATE)
    assert status == 200, answer
    (task,) = api.router.tasks
    assert isinstance(task, Embed)
    assert task.inputs == sent


async def test_a_string_is_the_templates_text(api: Api, models: dict[str, str]) -> None:
    await embed(api, models["embedder"], ["a", "b"], prompt_template="Embed this text: {text}")
    (task,) = api.router.tasks
    assert isinstance(task, Embed)
    assert task.inputs == ["Embed this text: a", "Embed this text: b"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input"),
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": [[]]}, "input[0]"),
    ({"input": ["a", ""]}, "input[1]"),
    ({"input": ["a", 1]}, "input"),
    ({"input": ["a", {"text": "a"}], "prompt_template": "{text}"}, "input"),
    ({"input": [1, [2]]}, "input"),
    ({"input": [[1, "a"]]}, "input[0][1]"),
    ({"input": [-1]}, "input[0]"),
    ({"input": [EMBEDDING_VOCAB_SIZE]}, "input"),
    ({"input": [[1], [EMBEDDING_VOCAB_SIZE]]}, "input[1]"),
    ({"input": [1] * 17}, "input"),
    ({"input": ["a"] * 2049}, "input"),
    ({"input": ["a"] * 10_000}, "input"),
    ({"input": {"text": "a"}}, "input"),
    ({"input": [{"text": "a"}]}, "input[0]"),
    ({"input": [{"text": "a"}], "prompt_template": "{title}"}, "input[0]"),
    ({"input": [{"text": ["a"]}], "prompt_template": "{text}"}, "input[0][...]"),
    ({"input": {"text": "a"}, "prompt_template": "{% for a in text %}{{ a }}{% endfor %}"}, "prompt_template"),
    ({"prompt_template": "x" * 16385}, "prompt_template"),
    ({"encoding_format": "int8"}, "encoding_format"),
    ({"dimensions": 0}, "dimensions"),
    ({"dimensions": -1}, "dimensions"),
    ({"dimensions": NUM_DIMENSIONS + 1}, "dimensions"),
    ({"dimensions": 10**9}, "dimensions"),
    ({"return_logits": [1]}, "return_logits"),
    ({"return_logits": []}, "return_logits"),
    ({"return_logits": [1] * 1025}, "return_logits"),
    ({"return_logits": [1], "dimensions": 2}, "dimensions"),
    ({"normalize": "yes"}, "normalize"),
    ({"stream": True}, "stream"),
    ({"raw_output": True}, "raw_output"),
    ({"model": READY_MODEL}, "model"),
]
"""Fields of a body, and the one that is named."""


async def test_what_cannot_be_done_is_refused_by_name(api: Api, models: dict[str, str]) -> None:
    surprises = []
    for fields, param in REFUSED:
        status, answer, _ = await post(api, EMBEDDINGS, {"model": models["embedder"], "input": "a", **fields})
        if status != 400 or answer["error"]["param"] != param:
            surprises.append((str(fields)[:100], param, status, str(answer)[:200]))
    assert not surprises
    assert not api.router.tasks


async def test_each_kind_of_model_does_what_it_can(api: Api, models: dict[str, str]) -> None:
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("ranker", {}, "model"),
        ("ranker", {"return_logits": [1]}, "return_logits"),
        ("decoder", {"return_logits": [EMBEDDING_VOCAB_SIZE]}, "return_logits"),
    ]
    for kind, fields, param in refused:
        status, answer, _ = await embed(api, models[kind], "a", **fields)
        assert (status, answer["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ["x" * 60_000, "y" * 60_000]},
        {"input": [{"a": "x" * 10_000}], "prompt_template": "{a}" * 16},
    ],
)
async def test_more_text_than_fits_is_too_large(api: Api, models: dict[str, str], fields: dict[str, Any]) -> None:
    status, answer, _ = await post(api, EMBEDDINGS, {"model": models["embedder"], **fields})
    assert status == 413
    assert answer["error"]["param"].startswith("input")


async def test_headers_tell_what_it_took_and_what_was_ignored(api: Api, models: dict[str, str]) -> None:
    fields = {"fanout_size": 4, "prompt_cache_isolation_key": "k", "user": "u", "colour": "red", "stream": False}
    _, answer, headers = await embed(api, models["embedder"], ["a", "b"], perf_metrics_in_response=True, **fields)
    assert headers["fireworks-prompt-tokens"] == str(2 * NUM_TOKENS)
    assert float(headers["fireworks-server-processing-time"]) >= 0
    assert headers["fireworks-deployment"].startswith("accounts/hearth/deployments/")
    assert headers["hearth-ignored-fields"] == "colour, fanout_size, prompt_cache_isolation_key"
    assert answer["perf_metrics"]["prompt-tokens"] == 2 * NUM_TOKENS
    assert api.router.leases[0].affinity_key == "u"


async def test_clients_say_how_long_they_wait_and_with_whom_they_stay(api: Api, models: dict[str, str]) -> None:
    body = {"model": models["embedder"], "input": "a", "user": "u"}
    await post(api, EMBEDDINGS, body, {"hearth-cold-start-wait": "7", "x-session-affinity": "session"})
    (lease,) = api.router.leases
    assert lease.affinity_key == "session"
    assert 0 < lease.wait_s <= 7.0


async def test_every_base_url_leads_there(api: Api, models: dict[str, str]) -> None:
    for path in ("/v1/embeddings", "/inference/v1/v1/embeddings"):
        status, _, _ = await post(api, path, {"model": models["embedder"], "input": "a"})
        assert status == 200


async def test_work_is_aborted_when_its_client_leaves(api: Api, models: dict[str, str]) -> None:
    has_begun = asyncio.Event()

    async def begin(*task: Any) -> AsyncGenerator[list[AnyPiece], None]:
        has_begun.set()
        await asyncio.Event().wait()
        yield []

    api.router.task_script = begin
    asking = asyncio.create_task(embed(api, models["embedder"], "a"))
    await has_begun.wait()
    asking.cancel()
    await until(lambda: api.router.aborted)
    assert api.router.aborted == [api.router.tasks[0].request_id]


async def test_an_answer_with_a_gap_is_an_error_and_no_answer(api: Api, models: dict[str, str]) -> None:
    async def leave_out(task: Any, follow_ups: Any) -> AsyncGenerator[list[AnyPiece], None]:
        used = Used(num_prompt_tokens=1)
        yield [
            Embedded(request_id=task.request_id, first_index=0, num_columns=1, values=b"abcd", used=used, is_last=True)
        ]

    api.router.task_script = leave_out
    status, answer, _ = await embed(api, models["embedder"], ["a", "b"])
    assert (status, answer["error"]["code"]) == (500, "INTERNAL")


async def test_what_was_embedded_is_metered(api: Api, models: dict[str, str]) -> None:
    await embed(api, models["embedder"], ["a", "b", "c"])
    _, usage = await get(api, USAGE, window(groupBy="model_name"))
    (row,) = usage["dedicatedCosts"]
    assert (row["requestCount"], row["promptTokens"], row["completionTokens"]) == ("1", str(3 * NUM_TOKENS), "0")
    async with api.session.get("/metrics", headers=api.bearer(Role.ADMIN)) as response:
        text = await response.text()
    assert f'kind="prompt"}} {float(3 * NUM_TOKENS)}' in text
