"""A picture on its way from noise: what every pipeline's has. Computes nothing."""

from dataclasses import dataclass
from typing import Any

import torch

from runtime.diffusion.adapters import Wanted
from runtime.diffusion.request import DrawRequest


@dataclass(eq=False, kw_only=True)
class DiffusionPainting:
    request: DrawRequest
    scheduler: Any
    """Of diffusers; this picture's own, for it has state."""
    timesteps: torch.Tensor
    """One for each step."""
    latents: torch.Tensor
    num_steps_done: int = 0

    @property
    def num_steps(self) -> int:
        return len(self.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """Of the next step."""
        return self.timesteps[self.num_steps_done]

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.request.adapter, self.request.adapter_scale)
