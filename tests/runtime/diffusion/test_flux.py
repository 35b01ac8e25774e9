"""Pictures of FLUX models equal those of diffusers' own pipeline, called directly: every byte of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from models.info import DiffusionInfo
from models.inspection import inspect_model
from runtime.diffusion.adapters import Adaptation
from runtime.diffusion.load import make_painter
from runtime.diffusion.parts import load_parts
from runtime.tasks.images import Draw
from tests.fakes.tiny_diffusion import build_tiny_flux
from tests.runtime.diffusion.conftest import Studio, align_adapter


def draw_plainly(directory: Path, seed: int = 1, adapter: tuple[Path, float] | None = None, **fields: Any) -> Any:
    pipeline = FluxPipeline.from_pretrained(directory)
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipeline.load_lora_weights(adapter[0], adapter_name="a")
        pipeline.set_adapters(["a"], [adapter[1]])
        align_adapter(pipeline)
    fields = {"prompt": "a red fox", "num_inference_steps": 2, "width": 64, "height": 64} | fields
    return np.asarray(pipeline(**fields, generator=torch.Generator().manual_seed(seed)).images[0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"prompt": "the hearth", "guidance_scale": 7.0}, {"prompt": "the hearth", "guidance_scale": 7.0}),
        ({"width": 96, "seeds": [5], "num_steps": 2}, {"width": 96, "seed": 5, "num_inference_steps": 2}),
    ],
)
def test_text_to_image(flux: Studio, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    (made,) = flux.draw(**ours)
    assert np.array_equal(made, draw_plainly(flux.directory, **theirs))
    assert made.std() > 20


def test_an_adapter(flux: Studio, flux_lora_dir: Path) -> None:
    flux.load_adapter("fur", flux_lora_dir)
    (made,) = flux.draw(adapter="fur", adapter_scale=0.6)
    assert np.array_equal(made, draw_plainly(flux.directory, adapter=(flux_lora_dir, 0.6)))
    assert not np.array_equal(made, flux.draw()[0])


def test_a_distilled_model_has_few_steps_and_no_guidance(tmp_path: Path) -> None:
    studio = Studio(build_tiny_flux(tmp_path, is_distilled=True))
    (made,) = studio.draw(num_steps=None, guidance_scale=3.5)
    theirs = draw_plainly(tmp_path, num_inference_steps=4, max_sequence_length=256)
    assert np.array_equal(made, theirs)
    studio.frontend.close()


def test_rows_of_one_forward_pass_do_not_mix(flux: Studio) -> None:
    info = inspect_model(flux.directory)
    assert isinstance(info, DiffusionInfo)
    device = torch.device("cpu")
    parts = load_parts(flux.directory, info, dtype=torch.float32, device=device, report=lambda fraction: None)
    painter = make_painter(parts, info, Adaptation(), device, is_exact=False)
    requests = [
        flux.frontend.prepare(
            Draw(request_id=prompt, prompt=prompt, seeds=[1], num_steps=num_steps, guidance_scale=num_steps)
        )
        for prompt, num_steps in (("a red fox", 3), ("the hearth", 4))
    ]
    paintings = [painter.begin(request, 1) for request in requests]
    alone = [painter.predict([painting])[0] for painting in paintings]
    for one, other in zip(painter.predict(paintings), alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    for request in requests:
        flux.frontend.forget(request.request_id)
