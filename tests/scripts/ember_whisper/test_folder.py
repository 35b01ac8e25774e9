"""What the script writes is a model that Hearth takes, as good or bad as its training was."""

import json
from pathlib import Path

import torch

from models.info import WhisperInfo
from models.inspection import inspect_model
from scripts.ember_whisper.folder import CLIP_S, SIZE_BYTES_MAX, convert
from scripts.ember_whisper.sound import NUM_MEL_BINS
from scripts.ember_whisper.tokenizer import train_tokenizer
from scripts.ember_whisper.training import build_model


def test_a_converted_model_is_one_that_hearth_serves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "written"
    convert(build_model(train_tokenizer()), train_tokenizer(), folder)
    info = inspect_model(folder)
    assert isinstance(info, WhisperInfo)
    assert (info.num_mel_bins, info.is_multilingual) == (NUM_MEL_BINS, False)
    assert json.loads((folder / "preprocessor_config.json").read_text())["chunk_length"] == CLIP_S
    assert sum(path.stat().st_size for path in folder.iterdir()) < SIZE_BYTES_MAX
