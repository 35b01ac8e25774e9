from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from runtime.embedding.runner import TokenHead
from tests.fakes.embedding_engine import DrivenEngine
from tests.fakes.tiny_embedder import SENTENCES, build_tiny_embedder


@pytest.mark.parametrize("is_tied", [True, False])
def test_logits_of_chosen_tokens_equal_the_whole_heads(tmp_path: Path, is_tied: bool) -> None:
    directory = build_tiny_embedder(tmp_path, "qwen3_reranker", tie_word_embeddings=is_tied)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    texts, token_ids = [text for text in SENTENCES if text], [5, 6, 100]
    expected = []
    for text in texts:
        with torch.inference_mode():
            expected.append(model(**tokenizer(text, return_tensors="pt")).logits[0, -1, token_ids].numpy())
    engine = DrivenEngine(directory)
    assert np.allclose(engine.embed(texts, logit_token_ids=token_ids), np.stack(expected), atol=1e-4)
    probabilities = engine.embed(texts, logit_token_ids=token_ids, is_normalized=True)
    assert probabilities == pytest.approx(torch.tensor(np.stack(expected)).softmax(1).numpy(), abs=1e-5)
    engine.close()


def test_vectors_and_logits_of_several_requests_share_a_step(tmp_path: Path) -> None:
    from runtime.tasks.embedding import Embed
    from tests.fakes.embedding_engine import vectors

    engine = DrivenEngine(build_tiny_embedder(tmp_path, "qwen3_reranker"))
    tasks = [
        Embed(request_id="vector", inputs=["a kettle", "snow"]),
        Embed(request_id="yes", inputs=["a kettle", "fire"], logit_token_ids=[5]),
        Embed(request_id="both", inputs=["snow and fire"], logit_token_ids=[6, 5]),
    ]
    together = engine.answer(*tasks)
    for task in tasks:
        alone = vectors(engine.answer(task)[task.request_id])
        assert np.allclose(vectors(together[task.request_id]), alone, atol=1e-5)
    engine.close()


def test_a_head_may_cap_its_logits() -> None:
    head = TokenHead(torch.eye(4) * 100, torch.device("cpu"), cap=30.0)
    logits = head.logits(torch.ones(1, 4), (1, 2))
    assert logits.tolist() == [[pytest.approx(30.0, abs=0.1)] * 2]
