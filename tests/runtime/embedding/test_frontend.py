from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from runtime.embedding.frontend import LONG_CHARACTERS
from runtime.embedding.request import RowOutput
from runtime.engine import LoadRefused, Postponed, RequestRefused
from runtime.message import FailureCode
from runtime.protocol import LoadAdapter
from runtime.tasks.embedding import Embed, Score
from tests.fakes.embedding_engine import DrivenEngine, scores, vectors
from tests.fakes.tiny_embedder import Embedder, build_tiny_embedder


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Embedder, DrivenEngine]]:
    names: tuple[Embedder, ...] = ("bert", "cross_encoder", "qwen3_reranker")
    built = {name: DrivenEngine(build_tiny_embedder(tmp_path_factory.mktemp(name), name)) for name in names}
    yield built
    for engine in built.values():
        engine.close()


@pytest.mark.parametrize(
    ("embedder", "task", "param"),
    [
        ("bert", Embed(request_id="r", inputs=[]), "input"),
        ("bert", Embed(request_id="r", inputs=["a"], num_dimensions=0), "dimensions"),
        ("bert", Embed(request_id="r", inputs=["a"], num_dimensions=49), "dimensions"),
        ("bert", Embed(request_id="r", inputs=["a"], prompt_name="query"), "prompt_name"),
        ("bert", Embed(request_id="r", inputs=["a"], logit_token_ids=[1]), "return_logits"),
        ("bert", Embed(request_id="r", inputs=["a"], adapter="x"), "model"),
        ("bert", Score(request_id="r", query="a", documents=["b"]), "model"),
        ("cross_encoder", Embed(request_id="r", inputs=["a"]), "model"),
        ("cross_encoder", Score(request_id="r", query="a", documents=[]), "documents"),
        ("cross_encoder", Score(request_id="r", query="a", documents=["b"], instruction="c"), "task"),
        ("qwen3_reranker", Embed(request_id="r", inputs=["a"], logit_token_ids=[10**6]), "return_logits"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    engines: dict[Embedder, DrivenEngine], embedder: Embedder, task: Embed | Score, param: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        engines[embedder].frontend.prepare(task)
    assert refused.value.param == param


def test_every_input_is_answered_once_and_counted(engines: dict[Embedder, DrivenEngine]) -> None:
    pieces = engines["bert"].answer(Embed(request_id="r", inputs=["the kettle", [5, 6, 7], ""]))["r"]
    assert vectors(pieces).shape == (3, 48)
    num_kettle_tokens = len(engines["bert"].frontend._texts.tokenizer.encode("the kettle").ids)  # type: ignore[attr-defined]
    assert sum(piece.used.num_prompt_tokens for piece in pieces) == num_kettle_tokens + 3 + 2


def test_tasks_of_several_callers_are_answered_as_if_alone(engines: dict[Embedder, DrivenEngine]) -> None:
    engine = engines["qwen3_reranker"]
    embed = Embed(request_id="e", inputs=["a", "b"])
    score = Score(request_id="s", query="a", documents=["b", "c d e"])
    together = engine.answer(embed, score)
    assert vectors(together["e"]) == pytest.approx(engine.embed(["a", "b"]), abs=1e-5)
    assert scores(together["s"]) == pytest.approx(engine.score("a", ["b", "c d e"]), abs=1e-5)


def test_long_tasks_are_tokenised_aside_and_failures_come_back(engines: dict[Embedder, DrivenEngine]) -> None:
    engine = engines["bert"]
    inputs = ["the kettle sings"] * (LONG_CHARACTERS // 10)
    long = Embed(request_id="long", inputs=[*inputs])
    with pytest.raises(Postponed) as postponed:
        engine.frontend.prepare(long)
    postponed.value.ready.exception(timeout=60)
    assert len(engine.frontend.prepare(long).texts) == len(inputs)
    engine.frontend.forget("long")
    bad = Embed(request_id="bad", inputs=[*inputs, "kettle " * 100])
    with pytest.raises(Postponed) as postponed:
        engine.frontend.prepare(bad)
    postponed.value.ready.exception(timeout=60)
    with pytest.raises(RequestRefused, match=f"input {len(inputs)} has"):
        engine.frontend.prepare(bad)


def test_outputs_of_a_client_that_left_are_dropped(engines: dict[Embedder, DrivenEngine]) -> None:
    frontend = engines["bert"].frontend
    frontend.prepare(Embed(request_id="gone", inputs=["a"]))
    frontend.forget("gone")
    frontend.forget("unknown")
    rendered = frontend.render([RowOutput("gone", 0, np.zeros(48, dtype=np.float32))])
    assert not rendered.pieces
    assert not rendered.failures


def test_an_answer_that_cannot_be_put_together_fails_alone(engines: dict[Embedder, DrivenEngine]) -> None:
    frontend = engines["bert"].frontend
    for request_id in ("broken", "fine"):
        frontend.prepare(Embed(request_id=request_id, inputs=["a"]))
    broken: Any = None
    rendered = frontend.render([RowOutput("broken", 0, broken), RowOutput("fine", 0, np.zeros(48, dtype=np.float32))])
    assert [failure.request_id for failure in rendered.failures] == ["broken"]
    assert [piece.request_id for piece in rendered.pieces] == ["fine"]


def test_addons_are_refused(engines: dict[Embedder, DrivenEngine]) -> None:
    frontend = engines["bert"].frontend
    loading = frontend.load_adapter(LoadAdapter(adapter="a", directory="/", file_sha256={}))
    with pytest.raises(LoadRefused, match="without addons"):
        loading.result()
    frontend.unload_adapter("a")
    with pytest.raises(RequestRefused) as refused:
        frontend.prepare(Embed(request_id="r", inputs=["a"], adapter="a"))
    assert refused.value.code is FailureCode.NOT_FOUND
