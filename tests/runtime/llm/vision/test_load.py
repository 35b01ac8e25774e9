from pathlib import Path

import torch

from models.llm_folder import inspect_llm
from runtime.llm.loader import build_skeleton, load_weights
from runtime.llm.vision.load import load_vision
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import build_tiny_model


def test_a_vision_language_model_gets_an_encoder_and_a_text_model_none(qwen: Path, tmp_path: Path) -> None:
    vision = TinyModel(qwen).vision
    assert vision is not None
    assert vision.features.num_encoded == 1, "nothing is left to be found out"
    directory = build_tiny_model(tmp_path, "llama")
    info = inspect_llm(directory)
    dtype, device = torch.float32, torch.device("cpu")
    model = load_weights(build_skeleton(directory, info), directory, info, dtype=dtype, device=device).model
    assert load_vision(model, directory, info, dtype=dtype, device=device) is None
