import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from models.embedding_folder import inspect_embedding
from runtime.embedding.scoring import AskedPairs, Pairs, make_pairs
from runtime.embedding.texts import Texts
from runtime.engine import RequestRefused
from tests.fakes.embedding_engine import DrivenEngine
from tests.fakes.tiny_embedder import build_tiny_embedder

# As the model card of the reranker family has it.
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_embedder(tmp_path_factory.mktemp("reranker"), "qwen3_reranker")


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_embedder(tmp_path_factory.mktemp("cross"), "cross_encoder")


@pytest.mark.parametrize("instruction", ["", "Find a text about fire"])
def test_a_language_model_is_asked_in_the_words_it_was_trained_on(reranker: Path, instruction: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(reranker)
    model = transformers.AutoModelForCausalLM.from_pretrained(reranker).eval()
    documents, expected = ["a kettle sings", "snow"], []
    for document in documents:
        body = f"<Instruct>: {instruction or INSTRUCTION}\n<Query>: what sings?\n<Document>: {document}"
        token_ids = [token_id for part in (PREFIX, body, SUFFIX) for token_id in tokenizer(part)["input_ids"]]
        with torch.inference_mode():
            logits = model(torch.tensor([token_ids])).logits[0, -1]
        yes, no = (logits[tokenizer.convert_tokens_to_ids(word)] for word in ("yes", "no"))
        expected.append(1 / (1 + math.exp(no - yes)))
    engine = DrivenEngine(reranker)
    assert engine.score("what sings?", documents, instruction=instruction) == pytest.approx(expected, abs=1e-5)
    engine.close()


def test_long_documents_are_cut_at_their_end_and_long_queries_refused(reranker: Path, cross_encoder: Path) -> None:
    for directory in (reranker, cross_encoder):
        info = inspect_embedding(directory)
        pairs = _pairs(directory)
        assert pairs is not None
        short, long, longer = pairs.encode("what?", ["x", "x y " * 400, "x y " * 400 + "z"], "")
        assert short.num_tokens < long.num_tokens == info.max_context_length
        assert long == longer
        for query in ("word " * 400, "word " * 100_000):
            with pytest.raises(RequestRefused, match="query: has") as refused:
                pairs.encode(query, ["x"], "")
            assert refused.value.param == "query"


def test_a_cross_encoder_takes_no_instruction(cross_encoder: Path) -> None:
    pairs = _pairs(cross_encoder)
    assert pairs is not None
    with pytest.raises(RequestRefused, match="task") as refused:
        pairs.encode("a", ["b"], "Find a text about fire")
    assert refused.value.param == "task"


def test_texts_of_a_pair_are_told_apart_where_the_model_was_made_so(cross_encoder: Path, tmp_path: Path) -> None:
    pairs = _pairs(cross_encoder)
    assert pairs is not None
    assert pairs.encode("a", ["b"], "")[0].second_start == 3, "behind the first text's separator"
    other = build_tiny_embedder(tmp_path, "cross_encoder")
    stated = json.loads((other / "tokenizer_config.json").read_bytes()) | {"model_input_names": ["input_ids"]}
    (other / "tokenizer_config.json").write_text(json.dumps(stated))
    pairs = _pairs(other)
    assert pairs is not None
    assert pairs.encode("a", ["b"], "")[0].second_start is None


def test_scores_lie_between_0_and_1_whatever_the_logits() -> None:
    pairs = object.__new__(AskedPairs)
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [2.0, 2.0]], dtype=np.float32)
    assert pairs.scores(logits) == [1.0, 0.0, 0.5]
    assert pairs.scores(logits[:, :1]) == pytest.approx([1.0, 0.0, 1 / (1 + math.exp(-2))])


def test_models_that_make_vectors_do_not_rank(tmp_path: Path) -> None:
    for name in ("bert", "qwen3_embedding"):
        directory = build_tiny_embedder(tmp_path / name, name)
        assert _pairs(directory) is None


def _pairs(directory: Path) -> Pairs | None:
    info = inspect_embedding(directory)
    return make_pairs(directory, info, Texts(directory, info, info.max_context_length))
