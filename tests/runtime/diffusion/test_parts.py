"""A folder whose parts do not fit is refused at the load, by name: nothing is made up for what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.runtime.diffusion.conftest import Studio, load_message, load_refusal_of


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        ("unet/config.json", {"time_cond_proj_dim": 8}, "time_cond_proj_dim"),
        ("model_index.json", {"requires_aesthetics_score": True}, "requires_aesthetics_score"),
        ("controlnet/canny/config.json", {"global_pool_conditions": True}, "global_pool_conditions"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "is not supported"),
    ],
)
def test_what_the_painters_do_not_do_is_refused_at_the_load(
    copy: Path, file: str, change: dict[str, Any], why: str
) -> None:
    config = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(config | change))
    assert why in load_refusal_of(load_message(copy)).message


@pytest.mark.parametrize("part", ["unet", "text_encoder_2", "controlnet/canny"])
def test_a_part_that_lacks_a_tensor_is_refused(copy: Path, part: str) -> None:
    (file,) = (copy / part).glob("*.safetensors")
    tensors = load_file(file)
    lacking = sorted(tensors)[3]
    save_file({name: tensor for name, tensor in tensors.items() if name != lacking}, file, metadata={"format": "pt"})
    assert f"{part}: has no " in load_refusal_of(load_message(copy)).message


def test_a_tensor_of_another_shape_is_refused(copy: Path) -> None:
    config = json.loads((copy / "text_encoder/config.json").read_text())
    (copy / "text_encoder/config.json").write_text(json.dumps(config | {"intermediate_size": 32}))
    assert "text_encoder: has no " in load_refusal_of(load_message(copy)).message


def test_weights_of_the_fp16_variant_are_found(copy: Path, sdxl: Studio) -> None:
    for name in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        (copy / f"{name}.safetensors").rename(copy / f"{name}.fp16.safetensors")
    studio = Studio(copy)
    assert (studio.draw()[0] == sdxl.draw()[0]).all()
    studio.frontend.close()
