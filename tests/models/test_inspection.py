import json
from pathlib import Path

import pytest

from models.info import DiffusionInfo, EmbeddingInfo, ModelInfo, WhisperInfo
from models.inspection import check_config, inspect_model
from models.refusal import ModelRefused, RefusalReason
from tests.fakes.tiny_diffusion import build_tiny_sdxl
from tests.fakes.tiny_embedder import build_tiny_embedder
from tests.fakes.tiny_llm import build_tiny_model
from tests.fakes.tiny_whisper import build_tiny_whisper


def test_a_folder_is_what_its_files_say(tmp_path: Path) -> None:
    llm = build_tiny_model(tmp_path / "llm", "llama")
    assert isinstance(inspect_model(llm), ModelInfo)
    assert isinstance(inspect_model(build_tiny_embedder(tmp_path / "bert", "bert")), EmbeddingInfo)
    decoder = build_tiny_embedder(tmp_path / "decoder", "qwen3_embedding")
    assert isinstance(inspect_model(decoder), EmbeddingInfo)
    whisper = build_tiny_whisper(tmp_path / "whisper")
    assert isinstance(inspect_model(whisper), WhisperInfo)
    sdxl = build_tiny_sdxl(tmp_path / "sdxl")
    assert isinstance(inspect_model(sdxl), DiffusionInfo)
    for directory in (llm, decoder, whisper, sdxl):
        assert check_config(directory) == []


def test_a_decoder_can_be_said_to_be_for_embedding(tmp_path: Path) -> None:
    reranker = build_tiny_embedder(tmp_path / "reranker", "qwen3_reranker")
    assert isinstance(inspect_model(reranker), ModelInfo)
    assert isinstance(inspect_model(reranker, is_for_embedding=True), EmbeddingInfo)
    assert check_config(reranker, is_for_embedding=True) == []


def test_a_folder_with_nothing_that_tells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused) as refused:
        inspect_model(tmp_path)
    assert (refused.value.reason, refused.value.file) == (RefusalReason.MISSING_FILE, "config.json")


def test_the_config_alone_can_be_checked(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", "llama")
    (folder / "model.safetensors").unlink()
    assert check_config(folder) == []
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    assert check_config(folder) == ["config.json: auto_map names remote code, which is never run"]
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["Unheard"]}))
    with pytest.raises(ModelRefused):
        check_config(folder)
