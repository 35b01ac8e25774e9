"""Which schedulers there are, by the names that clients give them; each picture has one of its own, for it keeps state.

All are made from the model's own scheduler config, so that the noise they expect is the noise the model was taught.
"""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_k_dpm_2_ancestral_discrete import KDPM2AncestralDiscreteScheduler
from diffusers.schedulers.scheduling_k_dpm_2_discrete import KDPM2DiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_tcd import TCDScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from runtime.engine import LoadRefused

_OWN_CLASSES = {
    kind.__name__: kind
    for kind in (
        DDIMScheduler,
        DDPMScheduler,
        DEISMultistepScheduler,
        DPMSolverMultistepScheduler,
        DPMSolverSinglestepScheduler,
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        FlowMatchEulerDiscreteScheduler,
        HeunDiscreteScheduler,
        KDPM2AncestralDiscreteScheduler,
        KDPM2DiscreteScheduler,
        LCMScheduler,
        LMSDiscreteScheduler,
        PNDMScheduler,
        TCDScheduler,
        UniPCMultistepScheduler,
    )
}


class _Choice(NamedTuple):
    kind: type[Any]
    settings: Mapping[str, Any] = {}


_EULER = _Choice(EulerDiscreteScheduler)
_SDXL = {
    "DDIM": _Choice(DDIMScheduler),
    "DDPM": _Choice(DDPMScheduler),
    "K_EULER": _EULER,
    "EULER": _EULER,
    "K_EULER_ANCESTRAL": _Choice(EulerAncestralDiscreteScheduler),
    "K_HEUN": _Choice(HeunDiscreteScheduler),
    "K_LMS": _Choice(LMSDiscreteScheduler),
    "K_DPM_2": _Choice(KDPM2DiscreteScheduler),
    "K_DPM_2_ANCESTRAL": _Choice(KDPM2AncestralDiscreteScheduler),
    "K_DPMPP_2M": _Choice(DPMSolverMultistepScheduler),
    "K_DPMPP_2M_KARRAS": _Choice(DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "K_DPMPP_2M_SDE": _Choice(DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "K_DPMPP_2S": _Choice(DPMSolverSinglestepScheduler),
    "UNIPC": _Choice(UniPCMultistepScheduler),
    "LCM": _Choice(LCMScheduler),
}


class Schedulers:
    """For one model; `config` is its own scheduler's."""

    def __init__(self, config: Mapping[str, Any], *, is_flow: bool) -> None:
        name = config.get("_class_name")
        own = _OWN_CLASSES.get(str(name))
        if own is None or (own is FlowMatchEulerDiscreteScheduler) is not is_flow:
            raise LoadRefused(f"scheduler/scheduler_config.json: {name} is not supported with this pipeline")
        self._own = _Choice(own)
        self._config = dict(config)
        self._by_name = {"EULER": self._own} if is_flow else _SDXL

    @property
    def names(self) -> list[str]:
        return sorted(self._by_name)

    def find(self, name: str) -> str | None:
        """As it is known here; upper case or lower, `-` or `_` make no difference. None: there is no such."""
        known = name.upper().replace("-", "_").replace(" ", "_")
        return known if known in self._by_name else None

    def make(self, name: str) -> Any:
        """A fresh one; `name` empty: the model's own."""
        choice = self._by_name[name] if name else self._own
        return choice.kind.from_config(self._config, **choice.settings)


def step_settings(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """What its step is told beside the prediction; those that add noise draw it from the picture's own generator."""
    known = inspect.signature(scheduler.step).parameters
    offered = {"eta": 0.0, "generator": generator}
    return {name: value for name, value in offered.items() if name in known}
