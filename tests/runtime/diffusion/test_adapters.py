"""LoRA addons change pictures exactly as peft's layers inside diffusers' pipeline do, and only who asks for one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from runtime.engine import LoadRefused, RequestRefused
from tests.fakes.tiny_diffusion import LORA_WEIGHTS
from tests.runtime.diffusion.conftest import Studio, align_adapter

Tensors = dict[str, torch.Tensor]


def draw_plainly(directory: Path, adapter: Path, scale: float) -> Any:
    pipeline = StableDiffusionXLPipeline.from_pretrained(directory, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(adapter, adapter_name="a")
    pipeline.set_adapters(["a"], [scale])
    align_adapter(pipeline)
    generator = torch.Generator().manual_seed(1)
    return np.asarray(pipeline("a red fox", num_inference_steps=2, generator=generator).images[0])


@pytest.mark.parametrize("fixture", ["lora_dir", "kohya_lora_dir"])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_pictures_equal_those_of_peft(sdxl: Studio, fixture: str, scale: float, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(fixture)
    sdxl.load_adapter(fixture, directory)
    (made,) = sdxl.draw(adapter=fixture, adapter_scale=scale)
    assert np.array_equal(made, draw_plainly(sdxl.directory, directory, scale))
    assert not np.array_equal(made, sdxl.draw()[0])


def test_one_with_no_scale_changes_nothing_and_leaves_nothing_behind(sdxl: Studio, lora_dir: Path) -> None:
    (before,) = sdxl.draw()
    sdxl.load_adapter("fur", lora_dir)
    sdxl.draw(adapter="fur")
    assert np.array_equal(sdxl.draw()[0], before)
    assert np.array_equal(sdxl.draw(adapter="fur", adapter_scale=0.0)[0], before)


def test_one_that_is_unloaded_is_not_found_but_serves_who_has_it(sdxl: Studio, lora_dir: Path) -> None:
    sdxl.load_adapter("fur", lora_dir)
    (expected,) = sdxl.draw(adapter="fur")
    request_id = sdxl.submit(adapter="fur")
    sdxl.frontend.unload_adapter("fur")
    assert np.array_equal(sdxl.run()[request_id][0], expected)
    with pytest.raises(RequestRefused, match="not loaded"):
        sdxl.submit(adapter="fur")


def _nan(tensors: Tensors) -> Tensors:
    first = next(iter(tensors))
    return tensors | {first: torch.full_like(tensors[first], float("nan"))}


def _half(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if "lora_A" in name}


def _elsewhere(tensors: Tensors) -> Tensors:
    return {name.replace("down_blocks.1", "down_blocks.7"): tensor for name, tensor in tensors.items()}


def _other_part(tensors: Tensors) -> Tensors:
    return {name.replace("unet.", "transformer."): tensor for name, tensor in tensors.items()}


def _wide(tensors: Tensors) -> Tensors:
    return {name: tensor.repeat(1, 2) if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}


def _large_rank(tensors: Tensors) -> Tensors:
    return {name: tensor.repeat_interleave(100, 0 if "_A" in name else 1) for name, tensor in tensors.items()}


def _dora(tensors: Tensors) -> Tensors:
    return tensors | {"unet.conv_in.lora_magnitude_vector.weight": torch.ones(32)}


def _nothing(tensors: Tensors) -> Tensors:
    return {"strange": torch.ones(1)}


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_nan, "no numbers"),
        (_half, "one matrix of the two"),
        (_elsewhere, "no such layer"),
        (_other_part, "no part of this model"),
        (_wide, "not made for"),
        (_large_rank, "its rank is 400"),
        (_dora, "only plain LoRA"),
        (_nothing, "no part of this model"),
    ],
)
def test_an_addon_that_does_not_fit_is_refused_by_name(
    sdxl: Studio, lora_dir: Path, tmp_path: Path, damage: Callable[[Tensors], Tensors], why: str
) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in damage(load_file(lora_dir / LORA_WEIGHTS)).items()}
    save_file(tensors, tmp_path / LORA_WEIGHTS)
    with pytest.raises(LoadRefused, match=why):
        sdxl.load_adapter("broken", tmp_path)


def test_a_file_that_is_no_safetensors_is_refused(sdxl: Studio, tmp_path: Path) -> None:
    (tmp_path / LORA_WEIGHTS).write_bytes(b"\x80\x04 not this")
    with pytest.raises(LoadRefused, match="no layout"):
        sdxl.load_adapter("broken", tmp_path)


def test_a_worker_without_room_for_addons_refuses_them(sdxl_dir: Path, lora_dir: Path) -> None:
    studio = Studio(sdxl_dir)
    with pytest.raises(LoadRefused, match="without memory for addons"):
        studio.load_adapter("fur", lora_dir)
    studio.frontend.close()
