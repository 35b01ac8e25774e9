import json
from pathlib import Path
from typing import Any

import pytest

from models.folder import ModelFolder
from models.info import DenseInfo
from models.refusal import ModelRefused, RefusalReason
from models.sentence_modules import SentenceModules, read_sentence_modules

POOLING = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}


def modules(*kinds: str, package: str = "sentence_transformers.models") -> list[dict[str, Any]]:
    paths = ["" if kind == "Transformer" else f"{index}_{kind}" for index, kind in enumerate(kinds)]
    return [{"idx": i, "name": str(i), "path": paths[i], "type": f"{package}.{kind}"} for i, kind in enumerate(kinds)]


def read(directory: Path, files: dict[str, Any], config: dict[str, Any] | None = None) -> SentenceModules:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    with ModelFolder(directory) as folder:
        return read_sentence_modules(folder, folder.list_tree(), config or {})


def test_a_folder_that_says_nothing_has_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, {}) == SentenceModules()


def test_both_ways_of_naming_a_pooling_are_read(tmp_path: Path) -> None:
    listed = modules("Transformer", "Pooling", "Normalize")
    found = read(tmp_path, {"modules.json": listed, "1_Pooling/config.json": POOLING})
    assert (found.pooling, found.is_normalized, found.includes_prompt) == ("cls", True, True)
    today = {"embedding_dimension": 8, "pooling_mode": "lasttoken", "include_prompt": False}
    package = "sentence_transformers.sentence_transformer.modules.pooling"
    listed = modules("Transformer", "Pooling", package=package)
    found = read(tmp_path, {"modules.json": listed, "1_Pooling/config.json": today})
    assert (found.pooling, found.is_normalized, found.includes_prompt) == ("lasttoken", False, False)


def test_dense_layers_prompts_and_lengths_are_read(tmp_path: Path) -> None:
    dense = {
        "in_features": 8,
        "out_features": 4,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    found = read(
        tmp_path,
        {
            "modules.json": modules("Transformer", "Pooling", "Dense"),
            "1_Pooling/config.json": POOLING,
            "2_Dense/config.json": dense,
            "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": ""}},
            "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": True},
        },
    )
    expected = DenseInfo(folder="2_Dense", num_inputs=8, num_outputs=4, has_bias=False, activation="identity")
    assert (found.dense, found.prompts, found.max_length, found.is_lowercased) == (
        [expected],
        {"query": "query: "},
        256,
        True,
    )


def test_a_score_by_the_next_token_is_read(tmp_path: Path) -> None:
    score = {"true_token_id": 5, "false_token_id": 6}
    listed = modules("Transformer", "LogitScore", package="sentence_transformers.cross_encoder.modules.logit_score")
    found = read(tmp_path, {"modules.json": listed, "1_LogitScore/config.json": score})
    assert (found.true_token_id, found.false_token_id, found.pooling) == (5, 6, None)


@pytest.mark.parametrize(
    "config",
    [
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    ],
)
def test_what_a_cross_encoders_logit_goes_through_is_read(tmp_path: Path, config: dict[str, Any]) -> None:
    assert read(tmp_path, {}, config).score_activation == "identity"


@pytest.mark.parametrize(
    "files",
    [
        {"modules.json": modules("Transformer", "Pooling", package="my_code")},
        {"modules.json": modules("Transformer", "CNN")},
        {"modules.json": modules("Pooling", "Transformer")},
        {"modules.json": modules("Transformer", "Dense"), "1_Dense/config.json": {}},
        {"modules.json": modules("Transformer", "Pooling"), "1_Pooling/config.json": {"pooling_mode": ["cls", "mean"]}},
        {
            "modules.json": modules("Transformer", "Pooling", "Dense"),
            "1_Pooling/config.json": POOLING,
            "2_Dense/config.json": {"in_features": 8, "out_features": 4, "activation_function": "os.system"},
        },
    ],
)
def test_modules_that_are_not_carried_out_are_refused_by_name(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused) as refused:
        read(tmp_path, files)
    assert refused.value.reason == RefusalReason.UNSUPPORTED_ARCHITECTURE


@pytest.mark.parametrize(
    "files",
    [
        {"modules.json": {"0": "Transformer"}},
        {"modules.json": [{"path": "../x", "type": "sentence_transformers.models.Transformer"}]},
        {"config_sentence_transformers.json": {"prompts": {"query": "x" * 10_001}}},
        {"config_sentence_transformers.json": {"default_prompt_name": "query"}},
        {"sentence_bert_config.json": {"max_seq_length": 0}},
        {"config_sentence_transformers.json": {"activation_fn": "os.system"}},
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused):
        read(tmp_path, files)
