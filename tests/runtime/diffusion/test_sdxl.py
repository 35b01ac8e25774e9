"""Pictures of SDXL models equal those of diffusers' own pipelines, called directly: every byte of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler

from models.info import DiffusionInfo
from models.inspection import inspect_model
from runtime.diffusion.adapters import Adaptation
from runtime.diffusion.load import make_painter
from runtime.tasks.images import Control, Draw
from tests.fakes.tiny_diffusion import CONTROL_NET
from tests.runtime.diffusion.conftest import Studio, mask, picture, png

FIVE = {"num_inference_steps": 5}
PROMPT, OTHER_PROMPT = "a red fox", "the hearth keeps the house warm"


class Plain:
    """diffusers' pipelines over the same folder."""

    def __init__(self, directory: Path) -> None:
        self.text = StableDiffusionXLPipeline.from_pretrained(directory, add_watermarker=False)
        self.control_net = ControlNetModel.from_pretrained(directory / "controlnet" / CONTROL_NET)

    def of(self, kind: type[Any], **more: Any) -> Any:
        pipeline = kind(**self.text.components, add_watermarker=False, **more)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def draw(self, kind: type[Any] = StableDiffusionXLPipeline, seed: int = 1, **fields: Any) -> np.ndarray[Any, Any]:
        more = {"controlnet": self.control_net} if "ControlNet" in kind.__name__ else {}
        scheduler = fields.pop("scheduler", None)
        pipeline = self.of(kind, **more)
        if scheduler is not None:
            pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
        fields = {"prompt": PROMPT, "num_inference_steps": 2} | fields
        return np.asarray(pipeline(**fields, generator=torch.Generator().manual_seed(seed)).images[0])


@pytest.fixture(scope="module")
def plain(sdxl_dir: Path) -> Plain:
    return Plain(sdxl_dir)


def test_text_to_image(sdxl: Studio, plain: Plain) -> None:
    (made,) = sdxl.draw(prompt=PROMPT)
    assert np.array_equal(made, plain.draw())
    assert made.shape == (64, 64, 3)
    assert made.std() > 20


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"seeds": [2**63]}, {"seed": 2**63}),
        ({"width": 96, "height": 64}, {"width": 96, "height": 64}),
        ({"negative_prompt": "blurry, low quality"}, {"negative_prompt": "blurry, low quality"}),
        ({"guidance_scale": 9.5}, {"guidance_scale": 9.5}),
        ({"guidance_scale": 0.0}, {"guidance_scale": 0.0}),
        ({"num_steps": 1}, {"num_inference_steps": 1}),
        ({"prompt": "a fox " * 60}, {"prompt": "a fox " * 60}),
        ({"prompt": ""}, {"prompt": ""}),
        ({"scheduler": "k_euler_ancestral"}, {"scheduler": EulerAncestralDiscreteScheduler}),
        ({"scheduler": "K_DPMPP_2M", "num_steps": 5}, {"scheduler": DPMSolverMultistepScheduler, **FIVE}),
        ({"scheduler": "K-HEUN"}, {"scheduler": HeunDiscreteScheduler}),
    ],
)  # fmt: skip
def test_every_setting_does_what_it_does_in_diffusers(
    sdxl: Studio, plain: Plain, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    (made,) = sdxl.draw(**ours)
    assert np.array_equal(made, plain.draw(**theirs))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image_to_image(sdxl: Studio, plain: Plain, strength: float) -> None:
    image = picture()
    (made,) = sdxl.draw(image=png(image), strength=strength, num_steps=4)
    theirs = plain.draw(StableDiffusionXLImg2ImgPipeline, image=image, strength=strength, num_inference_steps=4)
    assert np.array_equal(made, theirs)


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("scheduler", ["", "K_EULER_ANCESTRAL"])
def test_inpainting(sdxl: Studio, plain: Plain, strength: float, scheduler: str) -> None:
    image, white = picture(), mask()
    (made,) = sdxl.draw(image=png(image), mask=png(white), strength=strength, num_steps=4, scheduler=scheduler)
    theirs = plain.draw(
        StableDiffusionXLInpaintPipeline,
        image=image,
        mask_image=white,
        strength=strength,
        guidance_scale=5.0,
        num_inference_steps=4,
        width=64,
        height=64,
        scheduler=EulerAncestralDiscreteScheduler if scheduler else None,
    )
    assert np.array_equal(made, theirs)


@pytest.mark.parametrize(("scale", "start", "end"), [(0.5, 0.0, 1.0), (1.0, 0.3, 0.9)])
def test_control_net(sdxl: Studio, plain: Plain, scale: float, start: float, end: float) -> None:
    image = picture(seed=3)
    control = Control(name=CONTROL_NET, image=png(image), scale=scale, start=start, end=end)
    (made,) = sdxl.draw(control=control, num_steps=4)
    theirs = plain.draw(
        StableDiffusionXLControlNetPipeline,
        image=image,
        controlnet_conditioning_scale=scale,
        control_guidance_start=start,
        control_guidance_end=end,
        num_inference_steps=4,
    )
    assert np.array_equal(made, theirs)
    assert not np.array_equal(made, sdxl.draw(num_steps=4)[0])


def test_control_net_over_an_image(sdxl: Studio, plain: Plain) -> None:
    image, outline = picture(), picture(seed=3)
    control = Control(name=CONTROL_NET, image=png(outline), scale=0.8)
    (made,) = sdxl.draw(image=png(image), strength=0.7, control=control, num_steps=4)
    theirs = plain.draw(
        StableDiffusionXLControlNetImg2ImgPipeline,
        image=image,
        control_image=outline,
        strength=0.7,
        controlnet_conditioning_scale=0.8,
        num_inference_steps=4,
        width=64,
        height=64,
    )
    assert np.array_equal(made, theirs)


def test_each_picture_of_a_request_has_its_own_seed(sdxl: Studio, plain: Plain) -> None:
    made = sdxl.draw(seeds=[7, 8, 9, 7, 10])
    assert [np.array_equal(one, plain.draw(seed=seed)) for one, seed in zip(made, [7, 8, 9, 7, 10], strict=True)] == [
        True
    ] * 5


def test_mixed_requests_side_by_side_make_the_same_pictures_as_alone(sdxl: Studio, lora_dir: Path) -> None:
    sdxl.load_adapter("fur", lora_dir)
    control = Control(name=CONTROL_NET, image=png(picture(seed=3)))
    wanted: list[dict[str, Any]] = [
        {"prompt": PROMPT, "seeds": [1, 2]},
        {"prompt": OTHER_PROMPT, "num_steps": 5, "guidance_scale": 0.0},
        {"image": png(picture()), "strength": 0.5, "scheduler": "K_EULER_ANCESTRAL", "num_steps": 4},
        {"adapter": "fur", "adapter_scale": 0.7},
        {"control": control},
        {"control": control, "adapter": "fur", "guidance_scale": 2.0},
        {"width": 80},
    ]
    alone = [sdxl.draw(**fields) for fields in wanted]
    request_ids = [sdxl.submit(**fields) for fields in wanted]
    together = sdxl.run()
    for request_id, expected in zip(request_ids, alone, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(together[request_id], expected, strict=True))


def test_rows_of_one_forward_pass_do_not_mix(sdxl_dir: Path, sdxl: Studio, lora_dir: Path) -> None:
    """As on a GPU, where pictures are truly computed side by side: equal to within rounding."""
    sdxl.load_adapter("fur", lora_dir)
    info = inspect_model(sdxl_dir)
    assert isinstance(info, DiffusionInfo)
    device = torch.device("cpu")
    own_painter: Any = sdxl.engine._painter  # type: ignore[attr-defined]
    adaptation = Adaptation()  # of both, for an addon changes the layers that it was read for
    wide, exact = (
        make_painter(own_painter._parts, info, adaptation, device, is_exact=is_exact) for is_exact in (False, True)
    )
    control = {"control": Control(name=CONTROL_NET, image=png(picture(seed=3)))}
    ahead = {"control": Control(name=CONTROL_NET, image=png(picture(seed=4)), scale=1.0, start=0.9), "num_steps": 4}
    fields: list[dict[str, Any]] = [control, control | {"guidance_scale": 0.0, "adapter": "fur"}, ahead]
    requests = [sdxl.frontend.prepare(_draw(number, **each)) for number, each in enumerate(fields)]
    paintings = [[painter.begin(request, 1) for request in requests] for painter in (wide, exact)]
    for _ in range(2):
        predictions = [painter.predict(own) for painter, own in zip((wide, exact), paintings, strict=True)]
        for one, other in zip(*predictions, strict=True):
            torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)
        for painting, prediction in zip(paintings[0] + paintings[1], predictions[0] + predictions[1], strict=True):
            wide.advance(painting, prediction)
    wide.release()
    for request in requests:
        sdxl.frontend.forget(request.request_id)


def _draw(number: int, **fields: Any) -> Draw:
    stated: dict[str, Any] = {"request_id": f"wide{number}", "prompt": PROMPT, "seeds": [1], "num_steps": 3} | fields
    return Draw(**stated)
