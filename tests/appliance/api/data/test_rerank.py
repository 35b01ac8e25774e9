"""Both shapes of a ranking, and what is refused by name."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from appliance.api.data.rerank import DEFAULT_MODEL, RerankAnswer
from appliance.config import Config
from runtime.tasks.embedding import Score
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.data.embedders import make_models, post
from tests.fakes.scripted_tasks import NUM_TOKENS, score_of

RERANK = "/inference/v1/rerank"
DOCUMENTS = ["bb", "a", "dddd", "ccc", "ee"]
BEST_FIRST = [2, 3, 0, 4, 1]
"""Longer is better here, and the earlier of equal ones."""


@pytest.fixture
def config(config: Config) -> Config:
    return replace(config, limits=replace(config.limits, embedding_bytes_max=100_000))


@pytest.fixture
async def models(api: Api) -> dict[str, str]:
    return await make_models(api)


async def rerank(api: Api, model: str, **fields: Any) -> tuple[int, Any, dict[str, str]]:
    return await post(api, RERANK, {"model": model, "query": "q", "documents": DOCUMENTS, **fields})


async def test_both_generations_of_clients_read_the_same_ranking(api: Api, models: dict[str, str]) -> None:
    status, answer, headers = await rerank(api, models["ranker"])
    assert status == 200, answer
    ranked = [(index, score_of(DOCUMENTS[index]), DOCUMENTS[index]) for index in BEST_FIRST]
    num_tokens = len(DOCUMENTS) * NUM_TOKENS
    assert answer == {
        "object": "list",
        "model": models["ranker"],
        "data": [{"index": i, "relevance_score": score, "document": text} for i, score, text in ranked],
        "results": [{"index": i, "relevance_score": score, "text": text} for i, score, text in ranked],
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    msgspec.convert(answer, RerankAnswer)
    assert headers["fireworks-prompt-tokens"] == str(num_tokens)


async def test_only_the_best_come_back_and_without_their_texts(api: Api, models: dict[str, str]) -> None:
    _, answer, headers = await rerank(
        api, models["ranker"], top_n=2, return_documents=False, perf_metrics_in_response=True, colour="red"
    )
    expected = [{"index": index, "relevance_score": score_of(DOCUMENTS[index])} for index in BEST_FIRST[:2]]
    assert answer["data"] == answer["results"] == expected
    assert answer["perf_metrics"]["prompt-tokens"] == len(DOCUMENTS) * NUM_TOKENS
    assert headers["hearth-ignored-fields"] == "colour"


async def test_more_than_there_are_is_all(api: Api, models: dict[str, str]) -> None:
    _, answer, _ = await rerank(api, models["ranker"], top_n=100)
    assert [row["index"] for row in answer["data"]] == BEST_FIRST


async def test_a_task_reaches_models_that_can_be_told(api: Api, models: dict[str, str]) -> None:
    status, _, _ = await rerank(api, models["decoder"], task="find spells")
    assert status == 200
    (task,) = api.router.tasks
    assert isinstance(task, Score)
    assert (task.query, task.documents, task.instruction) == ("q", DOCUMENTS, "find spells")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"query": ""}, "query"),
    ({"query": None}, "query"),
    ({"documents": []}, "documents"),
    ({"documents": "a"}, "documents"),
    ({"documents": ["a", ""]}, "documents[1]"),
    ({"documents": ["a", 1]}, "documents[1]"),
    ({"documents": ["a"] * 2049}, "documents"),
    ({"top_n": 0}, "top_n"),
    ({"top_n": -1}, "top_n"),
    ({"task": "find spells"}, "task"),
    ({"stream": True}, "stream"),
    ({"model": READY_MODEL}, "model"),
]
"""Fields of a body, and the one that is named."""


async def test_what_cannot_be_done_is_refused_by_name(api: Api, models: dict[str, str]) -> None:
    surprises = []
    for fields, param in REFUSED:
        status, answer, _ = await rerank(api, **{"model": models["ranker"], **fields})
        if status != 400 or answer["error"]["param"] != param:
            surprises.append((str(fields)[:100], param, status, str(answer)[:200]))
    assert not surprises
    assert not api.router.tasks


async def test_who_only_embeds_does_not_rank(api: Api, models: dict[str, str]) -> None:
    status, answer, _ = await rerank(api, models["embedder"])
    assert (status, answer["error"]["param"]) == (400, "model")


async def test_more_text_than_fits_is_too_large(api: Api, models: dict[str, str]) -> None:
    status, answer, _ = await rerank(api, models["ranker"], documents=["x" * 60_000, "y" * 60_000])
    assert (status, answer["error"]["param"]) == (413, "documents")


async def test_who_names_no_model_means_the_libraries(api: Api) -> None:
    status, answer, _ = await post(api, RERANK, {"query": "q", "documents": DOCUMENTS})
    assert (status, answer["error"]["param"]) == (404, "model")
    assert DEFAULT_MODEL.startswith("fireworks/")
