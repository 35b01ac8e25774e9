import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.refusal import ModelRefused, RefusalReason
from models.whisper_folder import inspect_whisper
from tests.fakes.tiny_whisper import VOCAB_SIZE, build_tiny_whisper


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_whisper(tmp_path_factory.mktemp("whisper") / "model", quantization="int8")


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def refusal(directory: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        inspect_whisper(directory)
    assert str(directory) not in refused.value.message
    return refused.value


def edit_json(path: Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_a_converted_folder_is_described(tiny: Path) -> None:
    info = inspect_whisper(tiny)
    assert (info.dtype, info.is_multilingual, info.num_mel_bins) == ("int8", True, 80)
    assert (info.num_encoder_layers, info.num_decoder_layers, info.hidden_size) == (1, 2, 32)
    assert (info.vocab_size, info.max_context_length) == (VOCAB_SIZE, 448)
    assert sorted(info.file_sha256) == [
        "config.json", "model.bin", "preprocessor_config.json", "tokenizer.json", "vocabulary.json",
    ]  # fmt: skip
    assert info.warnings == []


def test_a_vocabulary_without_the_empty_token_is_of_one_language(model: Path) -> None:
    path = model / "vocabulary.json"
    path.write_text(json.dumps([token or "<filler>" for token in json.loads(path.read_text())]))
    assert not inspect_whisper(model).is_multilingual


def test_the_older_form_of_a_vocabulary_is_read(model: Path) -> None:
    listed = json.loads((model / "vocabulary.json").read_text())
    (model / "vocabulary.json").unlink()
    (model / "vocabulary.txt").write_text("".join(f"{token.replace(chr(10), '?')}\n" for token in listed))
    assert inspect_whisper(model).is_multilingual


@pytest.mark.parametrize("name", ["model.bin", "config.json", "vocabulary.json", "tokenizer.json"])
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.MISSING_FILE, name)


def test_other_files_that_end_so_are_pickles(model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"x")
    assert refusal(model).reason == RefusalReason.PICKLE


def test_models_of_another_kind_are_refused(model: Path) -> None:
    content = (model / "model.bin").read_bytes()
    (model / "model.bin").write_bytes(content.replace(b"WhisperSpec", b"AnotherSpec", 1))
    assert refusal(model).reason == RefusalReason.UNSUPPORTED_ARCHITECTURE


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"lang_ids": [VOCAB_SIZE]}),
        ("config.json", {"suppress_ids": [-2]}),
        ("config.json", {"suppress_ids": "all"}),
        ("config.json", {"alignment_heads": [[2, 0]]}),
        ("preprocessor_config.json", {"feature_size": 128}),
        ("preprocessor_config.json", {"sampling_rate": 8000}),
        ("preprocessor_config.json", {"chunk_length": 31}),
    ],
)
def test_what_the_files_say_of_one_another_must_hold(model: Path, name: str, change: dict[str, Any]) -> None:
    edit_json(model / name, **change)
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.INVALID_CONFIG, name)


def test_token_ids_beyond_the_embedding_are_refused(model: Path) -> None:
    listed = json.loads((model / "vocabulary.json").read_text())
    (model / "vocabulary.json").write_text(json.dumps([*listed, "more", "than", "it", "knows", *["x"] * 8]))
    assert refusal(model).reason == RefusalReason.INVALID_TOKENIZER
