from typing import Any

import pytest
import torch

from runtime.diffusion.schedulers import Schedulers
from runtime.engine import LoadRefused
from tests.runtime.diffusion.conftest import Studio, picture, png

# Of what K_DPM_2 does to a tensor by numpy.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

CONFIG = {"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "steps_offset": 1}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


@pytest.mark.parametrize("name", ["", *Schedulers(CONFIG, is_flow=False).names])
def test_each_goes_from_noise_to_a_picture_and_begins_afresh(name: str) -> None:
    schedulers = Schedulers(CONFIG, is_flow=False)

    def end() -> torch.Tensor:
        scheduler = schedulers.make(name)
        scheduler.set_timesteps(4)
        latents = torch.ones(1, 4, 2, 2)
        for timestep in scheduler.timesteps:
            prediction = 0.1 * scheduler.scale_model_input(latents, timestep)
            latents = (
                scheduler.step(prediction, timestep, latents, generator=torch.Generator().manual_seed(1))[0]
                if ("generator" in scheduler.step.__code__.co_varnames)
                else scheduler.step(prediction, timestep, latents)[0]
            )
        return latents

    first = end()
    assert torch.equal(first, end())
    assert first.isfinite().all()


@pytest.mark.parametrize(
    ("said", "known"), [("k_euler", "K_EULER"), ("K-Dpmpp-2M karras", "K_DPMPP_2M_KARRAS"), ("ddim ", None), ("", None)]
)
def test_names_are_known_however_they_are_written(said: str, known: str | None) -> None:
    assert Schedulers(CONFIG, is_flow=False).find(said) == known


def test_a_flow_model_has_its_own_only() -> None:
    schedulers = Schedulers(FLOW, is_flow=True)
    assert schedulers.find("euler") == "EULER"
    assert schedulers.find("K_HEUN") is None
    assert type(schedulers.make("EULER")).__name__ == "FlowMatchEulerDiscreteScheduler"


@pytest.mark.parametrize(
    ("config", "is_flow"), [(FLOW, False), (CONFIG, True), ({"_class_name": "os.system"}, False), ({}, True)]
)
def test_a_scheduler_that_does_not_belong_is_refused(config: dict[str, Any], is_flow: bool) -> None:
    with pytest.raises(LoadRefused, match="scheduler_config"):
        Schedulers(config, is_flow=is_flow)


@pytest.mark.parametrize("name", ["DDIM", "DDPM", "K_LMS", "UNIPC", "LCM", "K_DPM_2", "K_DPMPP_2M_SDE", "K_DPMPP_2S"])
def test_a_model_draws_with_each(sdxl: Studio, name: str) -> None:
    """From noise, and from somewhere between."""
    first, again = sdxl.draw(scheduler=name, num_steps=2, seeds=[1, 1])
    assert (first == again).all()
    assert sdxl.draw(scheduler=name, num_steps=2, image=png(picture()), strength=0.5)[0].std() > 5
