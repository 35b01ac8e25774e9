import json
import stat
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from models.llm_folder import inspect_llm
from scripts.ember_chat.folder import write_folder
from scripts.ember_chat.tokenizer import train_tokenizer
from tests.scripts.ember_chat.tiny_llama import tiny_llama


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["Hello!"])


def test_the_folder_is_one_that_hearth_accepts(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    write_folder(tiny_llama(2048), tokenizer, tmp_path / "model")
    info = inspect_llm(tmp_path / "model")
    assert (info.dtype, info.tied_embeddings, info.has_chat_template) == ("bfloat16", True, True)
    assert not info.warnings


def test_files_are_readable_for_all_and_old_ones_are_gone(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "left over").touch()
    write_folder(tiny_llama(2048), tokenizer, directory)
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o644}
    assert not (directory / "left over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_too_big_leaves_the_old_one(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    directory = tmp_path / "model"
    write_folder(tiny_llama(2048), tokenizer, directory)
    before = (directory / "config.json").read_bytes()
    with pytest.raises(ValueError, match="bytes, more than"):
        write_folder(tiny_llama(2048, hidden_size=2400), tokenizer, directory)
    assert (directory / "config.json").read_bytes() == before


def test_weights_are_written_as_they_were_judged(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_llama(2048)
    expected = model.model.norm.weight.to(torch.bfloat16)
    write_folder(model, tokenizer, tmp_path / "model")
    read = LlamaForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(read.model.norm.weight, expected)
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["eos_token_id"] == 1
