"""How FLUX makes a picture: a transformer over patches of latents, from noise, told the prompt and the guidance.

The arithmetic of diffusers' FluxPipeline, one step at a time and for several pictures side by side, each at a step of
its own. What happens before the first step is done by the pipeline's own methods. For the main thread only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline, calculate_shift

from runtime.diffusion.adapters import Adaptation, Wanted
from runtime.diffusion.engine import Painted
from runtime.diffusion.latents import decode_latents, upcast_where_needed
from runtime.diffusion.painting import DiffusionPainting
from runtime.diffusion.parts import Parts
from runtime.diffusion.request import DrawRequest
from runtime.diffusion.safety import check_safety

PROMPT_TOKENS = 512
PROMPT_TOKENS_DISTILLED = 256
"""FLUX.1 schnell was taught with prompts of half the length."""


class _Prompt(NamedTuple):
    embeds: torch.Tensor
    pooled: torch.Tensor
    text_ids: torch.Tensor


@dataclass(eq=False, kw_only=True)
class FluxPainting(DiffusionPainting):
    prompt: _Prompt
    image_ids: torch.Tensor


class FluxPainter:
    """`is_exact`: as of `SdxlPainter`."""

    def __init__(self, parts: Parts, adaptation: Adaptation, device: torch.device, *, is_exact: bool) -> None:
        self._pipeline = FluxPipeline(**parts.models, **parts.tokenizers, scheduler=parts.schedulers.make(""))
        self._transformer, self._vae = parts.models["transformer"], parts.models["vae"]
        self._is_guided = bool(self._transformer.config.guidance_embeds)
        self._parts = parts
        self._adaptation = adaptation
        self._device = device
        self._is_exact = is_exact

    @torch.no_grad()
    def begin(self, request: DrawRequest, seed: int) -> FluxPainting:
        if request.encoded is None:
            request.encoded = self._encode(request)
        prompt: _Prompt = request.encoded
        latents, image_ids = self._pipeline.prepare_latents(
            1,
            self._transformer.config.in_channels // 4,
            request.height,
            request.width,
            prompt.embeds.dtype,
            self._device,
            torch.Generator().manual_seed(seed),
        )
        scheduler = self._parts.schedulers.make(request.scheduler)
        self._set_timesteps(scheduler, request.num_steps, num_patches=latents.shape[1])
        return FluxPainting(
            request=request,
            prompt=prompt,
            scheduler=scheduler,
            timesteps=scheduler.timesteps,
            latents=latents,
            image_ids=image_ids,
        )

    def _encode(self, request: DrawRequest) -> _Prompt:
        self._adaptation.set_rows([Wanted(request.adapter, request.adapter_scale)])
        try:
            embeds, pooled, text_ids = self._pipeline.encode_prompt(
                request.prompt,
                device=self._device,
                max_sequence_length=PROMPT_TOKENS if self._is_guided else PROMPT_TOKENS_DISTILLED,
            )
        finally:
            self._adaptation.clear()
        return _Prompt(embeds, pooled, text_ids)

    def _set_timesteps(self, scheduler: Any, num_steps: int, *, num_patches: int) -> None:
        """Larger pictures are given more of the noisy steps."""
        config = scheduler.config
        shift = calculate_shift(
            num_patches,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        if config.get("use_flow_sigmas"):
            scheduler.set_timesteps(num_steps, device=self._device, mu=shift)
        else:
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / num_steps, num_steps), device=self._device, mu=shift)
        scheduler.set_begin_index(0)

    @torch.no_grad()
    def predict(self, paintings: Sequence[FluxPainting]) -> list[torch.Tensor]:
        if self._is_exact:
            return [prediction for painting in paintings for prediction in self._forward([painting])]
        return self._forward(paintings)

    def _forward(self, paintings: Sequence[FluxPainting]) -> list[torch.Tensor]:
        latents = torch.cat([p.latents for p in paintings])
        timesteps = torch.stack([p.timestep.to(self._device) for p in paintings]).to(latents.dtype)
        scales = [p.request.guidance_scale for p in paintings]
        self._adaptation.set_rows([p.wanted for p in paintings])
        noise: torch.Tensor = self._transformer(
            hidden_states=latents,
            timestep=timesteps / 1000,
            guidance=torch.tensor(scales, device=self._device, dtype=torch.float32) if self._is_guided else None,
            pooled_projections=torch.cat([p.prompt.pooled for p in paintings]),
            encoder_hidden_states=torch.cat([p.prompt.embeds for p in paintings]),
            txt_ids=paintings[0].prompt.text_ids,
            img_ids=paintings[0].image_ids,
            return_dict=False,
        )[0]
        return [noise[row : row + 1] for row in range(len(paintings))]

    @torch.no_grad()
    def advance(self, painting: FluxPainting, prediction: torch.Tensor) -> None:
        painting.latents = painting.scheduler.step(prediction, painting.timestep, painting.latents, return_dict=False)[
            0
        ]
        painting.num_steps_done += 1

    @torch.no_grad()
    def finish(self, painting: FluxPainting) -> Painted:
        vae, request = self._vae, painting.request
        upcast_where_needed(vae)
        latents = self._pipeline._unpack_latents(
            painting.latents, request.height, request.width, self._pipeline.vae_scale_factor
        )
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
        pixels = decode_latents(vae, latents, self._pipeline.image_processor)
        if request.checks_safety and self._parts.safety is not None:
            return check_safety(pixels, self._parts.safety)
        return Painted(pixels, False)

    def release(self) -> None:
        self._adaptation.clear()
