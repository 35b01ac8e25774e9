from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.llm_folder import inspect_llm
from models.refusal import RefusalReason
from models.vision_tensors import canonical_name
from tests.models.vision_folders import copied, refusal


@pytest.mark.parametrize(
    ("encoder", "stored", "name"),
    [
        ("clip", "language_model.model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("clip", "language_model.lm_head.weight", "lm_head.weight"),
        ("clip", "model.language_model.norm.weight", "model.norm.weight"),
        ("clip", "lm_head.weight", "lm_head.weight"),
        ("clip", "vision_tower.vision_model.pre_layrnorm.bias", "vision.pre_layrnorm.bias"),
        ("clip", "model.vision_tower.pre_layrnorm.bias", "vision.pre_layrnorm.bias"),
        ("clip", "multi_modal_projector.linear_1.bias", "projector.linear_1.bias"),
        ("qwen2_vl", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("qwen2_vl", "model.language_model.norm.weight", "model.norm.weight"),
        ("qwen2_vl", "visual.merger.ln_q.weight", "vision.merger.ln_q.weight"),
        ("qwen2_vl", "model.visual.merger.ln_q.weight", "vision.merger.ln_q.weight"),
    ],
)
def test_tensors_have_one_name_however_they_are_stored(encoder: str, stored: str, name: str) -> None:
    assert canonical_name(encoder, stored) == name


def test_checkpoints_with_older_names_and_with_what_can_be_computed_are_taken(llava: Path, tmp_path: Path) -> None:
    copied(llava, tmp_path)
    tensors = load_file(llava / "model.safetensors")
    older = {name.replace("vision_tower.", "vision_tower.vision_model."): tensor for name, tensor in tensors.items()}
    older["vision_tower.vision_model.embeddings.position_ids"] = np.arange(17)
    save_file(older, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert inspect_llm(tmp_path).num_parameters == inspect_llm(llava).num_parameters
    older["model.vision_tower.pre_layrnorm.bias"] = tensors["vision_tower.pre_layrnorm.bias"]
    save_file(older, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert refusal(tmp_path).reason is RefusalReason.DUPLICATE_TENSOR
