"""How SDXL makes a picture: from noise, from a picture, inside a mask, along a ControlNet's picture.

The arithmetic of diffusers' pipelines, one step at a time and for several pictures side by side, each at a step of its
own. What happens before the first step is done by those pipelines' own methods. For the main thread only.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img import (
    StableDiffusionXLImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint import (
    StableDiffusionXLInpaintPipeline,
)

from runtime.diffusion.adapters import Adaptation, Wanted
from runtime.diffusion.engine import Painted
from runtime.diffusion.latents import as_image, decode_latents, upcast_where_needed
from runtime.diffusion.painting import DiffusionPainting
from runtime.diffusion.parts import Parts
from runtime.diffusion.request import DrawRequest
from runtime.diffusion.safety import check_safety
from runtime.diffusion.schedulers import step_settings


@dataclass(eq=False, kw_only=True)
class _Prompt:
    """What the text encoders make of it; each with a batch of one."""

    embeds: torch.Tensor
    pooled: torch.Tensor
    negative_embeds: torch.Tensor | None
    """None: without guidance nobody asks for it."""
    negative_pooled: torch.Tensor | None


@dataclass(eq=False, kw_only=True)
class _Inpainting:
    """What is put back after every step where the mask is black."""

    mask: torch.Tensor
    image_latents: torch.Tensor
    noise: torch.Tensor


@dataclass(eq=False, kw_only=True)
class SdxlPainting(DiffusionPainting):
    prompt: _Prompt
    step_settings: dict[str, Any]
    time_ids: torch.Tensor
    control: torch.Tensor | None
    inpainting: _Inpainting | None

    @property
    def is_guided(self) -> bool:
        return self.prompt.negative_embeds is not None

    @property
    def control_scale(self) -> float:
        """Of this step."""
        control = self.request.control
        if control is None:
            return 0.0
        done = self.num_steps_done
        is_off = done / self.num_steps < control.start or (done + 1) / self.num_steps > control.end
        return control.scale * (1.0 - float(is_off))


class SdxlPainter:
    """`is_exact`: one picture at a time even in a batch, for a sum over other rows may be rounded another way.

    Where a batch is no faster, as on a CPU, that costs nothing, and the same seed is the same picture to the last bit.
    """

    def __init__(self, parts: Parts, adaptation: Adaptation, device: torch.device, *, is_exact: bool) -> None:
        components = {**parts.models, **parts.tokenizers, "scheduler": parts.schedulers.make("")}
        settings = {
            "force_zeros_for_empty_prompt": bool(parts.settings.get("force_zeros_for_empty_prompt", True)),
            "add_watermarker": False,
        }
        self._pipeline = StableDiffusionXLPipeline(**components, **settings)
        self._from_image = StableDiffusionXLImg2ImgPipeline(**components, **settings)
        self._inpaint = StableDiffusionXLInpaintPipeline(**components, **settings)
        self._control_processor = VaeImageProcessor(
            vae_scale_factor=self._pipeline.vae_scale_factor, do_convert_rgb=True, do_normalize=False
        )
        self._unet, self._vae = parts.models["unet"], parts.models["vae"]
        self._parts = parts
        self._adaptation = adaptation
        self._device = device
        self._is_exact = is_exact

    # ---- before the first step

    @torch.no_grad()
    def begin(self, request: DrawRequest, seed: int) -> SdxlPainting:
        if request.encoded is None:
            request.encoded = self._encode(request)
        prompt: _Prompt = request.encoded
        generator = torch.Generator().manual_seed(seed)
        scheduler = self._parts.schedulers.make(request.scheduler)
        scheduler.set_timesteps(request.num_steps, device=self._device)
        inpainting = None
        if request.mask is not None:
            timesteps, latents, inpainting = self._begin_inpainting(request, scheduler, prompt, generator)
        elif request.image is not None:
            timesteps, latents = self._begin_from_image(request, scheduler, prompt, generator)
        else:
            timesteps, latents = scheduler.timesteps, self._begin_from_noise(request, scheduler, prompt, generator)
        return SdxlPainting(
            request=request,
            prompt=prompt,
            scheduler=scheduler,
            timesteps=timesteps,
            step_settings=step_settings(scheduler, generator),
            latents=latents,
            time_ids=self._time_ids(request, prompt),
            control=self._control_input(request, prompt),
            inpainting=inpainting,
        )

    def _encode(self, request: DrawRequest) -> _Prompt:
        is_guided = request.guidance_scale > 1
        self._adaptation.set_rows([Wanted(request.adapter, request.adapter_scale)])
        try:
            embeds, negative, pooled, negative_pooled = self._pipeline.encode_prompt(
                request.prompt,
                device=self._device,
                do_classifier_free_guidance=is_guided,
                negative_prompt=request.negative_prompt or None,
            )
        finally:
            self._adaptation.clear()
        return _Prompt(
            embeds=embeds,
            pooled=pooled,
            negative_embeds=negative if is_guided else None,
            negative_pooled=negative_pooled if is_guided else None,
        )

    def _begin_from_noise(
        self, request: DrawRequest, scheduler: Any, prompt: _Prompt, generator: torch.Generator
    ) -> torch.Tensor:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        with _scheduled(self._pipeline, scheduler):
            latents: torch.Tensor = self._pipeline.prepare_latents(
                1,
                self._unet.config.in_channels,
                request.height,
                request.width,
                prompt.embeds.dtype,
                self._device,
                generator,
            )
        return latents

    def _begin_from_image(
        self, request: DrawRequest, scheduler: Any, prompt: _Prompt, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert request.image is not None
        pipeline = self._from_image
        image = pipeline.image_processor.preprocess(as_image(request.image))
        with _scheduled(pipeline, scheduler):
            timesteps, _ = pipeline.get_timesteps(request.num_steps, request.strength, self._device)
            latents = pipeline.prepare_latents(
                image, timesteps[:1], 1, 1, prompt.embeds.dtype, self._device, generator, True
            )
        return timesteps, latents

    def _begin_inpainting(
        self, request: DrawRequest, scheduler: Any, prompt: _Prompt, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, _Inpainting]:
        assert request.image is not None, "a mask belongs to an image"
        assert request.mask is not None
        pipeline, dtype = self._inpaint, prompt.embeds.dtype
        size = {"height": request.height, "width": request.width}
        image = pipeline.image_processor.preprocess(as_image(request.image), **size).to(torch.float32)
        mask = pipeline.mask_processor.preprocess(as_image(request.mask), **size)
        with _scheduled(pipeline, scheduler):
            timesteps, _ = pipeline.get_timesteps(request.num_steps, request.strength, self._device)
            latents, noise, image_latents = pipeline.prepare_latents(
                1,
                self._vae.config.latent_channels,
                request.height,
                request.width,
                dtype,
                self._device,
                generator,
                image=image,
                timestep=timesteps[:1],
                is_strength_max=request.strength == 1.0,
                return_noise=True,
                return_image_latents=True,
            )
            # The masked picture's latents are for other UNets, but drawing them moves the generator on.
            mask, _ = pipeline.prepare_mask_latents(
                mask, image * (mask < 0.5), 1, request.height, request.width, dtype, self._device, generator, False
            )
        return timesteps, latents, _Inpainting(mask=mask, image_latents=image_latents, noise=noise)

    def _time_ids(self, request: DrawRequest, prompt: _Prompt) -> torch.Tensor:
        size = (request.height, request.width)
        time_ids: torch.Tensor = self._pipeline._get_add_time_ids(
            size,
            (0, 0),
            size,
            dtype=prompt.embeds.dtype,
            text_encoder_projection_dim=self._pipeline.text_encoder_2.config.projection_dim,
        )
        return time_ids.to(self._device)

    def _control_input(self, request: DrawRequest, prompt: _Prompt) -> torch.Tensor | None:
        if request.control is None:
            return None
        image: torch.Tensor = self._control_processor.preprocess(
            as_image(request.control.pixels), height=request.height, width=request.width
        )
        # Contiguous as the pipeline has it: convolutions sum in another order where channels come last in memory.
        return image.to(torch.float32).contiguous().to(self._device, prompt.embeds.dtype)

    # ---- a step

    @torch.no_grad()
    def predict(self, paintings: Sequence[SdxlPainting]) -> list[torch.Tensor]:
        if self._is_exact:
            return [prediction for painting in paintings for prediction in self._forward([painting])]
        return self._forward(paintings)

    def _forward(self, paintings: Sequence[SdxlPainting]) -> list[torch.Tensor]:
        """First the rows of those that are guided, told what not to draw; then everybody's, told what to draw."""
        guided = [painting for painting in paintings if painting.is_guided]
        rows = [*guided, *paintings]
        sample = torch.cat([p.scheduler.scale_model_input(p.latents, p.timestep) for p in rows])
        timesteps = torch.stack([p.timestep.to(self._device, torch.float32) for p in rows])
        prompts = [p.prompt.negative_embeds for p in guided] + [p.prompt.embeds for p in paintings]
        pooled = [p.prompt.negative_pooled for p in guided] + [p.prompt.pooled for p in paintings]
        inputs = {
            "encoder_hidden_states": torch.cat(prompts),  # type: ignore[arg-type]
            "added_cond_kwargs": {
                "text_embeds": torch.cat(pooled),  # type: ignore[arg-type]
                "time_ids": torch.cat([p.time_ids for p in rows]),
            },
            "return_dict": False,
        }
        residuals = self._control_residuals(rows, sample, timesteps, inputs)
        self._adaptation.set_rows([p.wanted for p in rows])
        noise = self._unet(sample, timesteps, **inputs, **residuals)[0]
        by_row = [noise[row : row + 1] for row in range(len(rows))]
        away = dict(zip(map(id, guided), by_row, strict=False))
        return [
            _guided(away.get(id(painting)), towards, painting.request.guidance_scale)
            for painting, towards in zip(paintings, by_row[len(guided) :], strict=True)
        ]

    def _control_residuals(
        self, rows: Sequence[SdxlPainting], sample: torch.Tensor, timesteps: torch.Tensor, inputs: dict[str, Any]
    ) -> dict[str, Any]:
        """What a ControlNet adds to the UNet's blocks; all rows have the same one."""
        scales = [painting.control_scale for painting in rows]
        control = rows[0].request.control
        if control is None or not (any(scales) or self._is_exact):  # adding noughts would cost as much as the rest
            return {}
        is_uniform = len(set(scales)) == 1
        down, middle = self._parts.control_nets[control.name](
            sample,
            timesteps,
            controlnet_cond=torch.cat([p.control for p in rows]),  # type: ignore[misc]
            conditioning_scale=scales[0] if is_uniform else 1.0,
            **inputs,
        )
        if not is_uniform:
            down, middle = [_scaled(residual, scales) for residual in down], _scaled(middle, scales)
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    @torch.no_grad()
    def advance(self, painting: SdxlPainting, prediction: torch.Tensor) -> None:
        latents = painting.scheduler.step(
            prediction, painting.timestep, painting.latents, **painting.step_settings, return_dict=False
        )[0]
        painting.num_steps_done += 1
        if painting.inpainting is not None:
            latents = _put_back(latents, painting, painting.inpainting)
        painting.latents = latents

    # ---- after the last step

    @torch.no_grad()
    def finish(self, painting: SdxlPainting) -> Painted:
        vae, config = self._vae, self._vae.config
        upcast_where_needed(vae)
        latents = painting.latents.to(vae.dtype)
        if getattr(config, "latents_mean", None) is not None and getattr(config, "latents_std", None) is not None:
            mean, std = (
                torch.tensor(values).view(1, -1, 1, 1).to(latents.device, latents.dtype)
                for values in (config.latents_mean, config.latents_std)
            )
            latents = latents * std / config.scaling_factor + mean
        else:
            latents = latents / config.scaling_factor
        pixels = decode_latents(vae, latents, self._pipeline.image_processor)
        if painting.request.checks_safety and self._parts.safety is not None:
            return check_safety(pixels, self._parts.safety)
        return Painted(pixels, False)

    def release(self) -> None:
        self._adaptation.clear()


def _guided(away: torch.Tensor | None, towards: torch.Tensor, scale: float) -> torch.Tensor:
    return towards if away is None else away + scale * (towards - away)


def _scaled(residual: torch.Tensor, scales: Sequence[float]) -> torch.Tensor:
    """Each row by its own; multiplied as a single number would be, in float32."""
    factors = torch.tensor(scales, device=residual.device).view(-1, *[1] * (residual.ndim - 1))
    return (residual * factors).to(residual.dtype)


def _put_back(latents: torch.Tensor, painting: SdxlPainting, inpainting: _Inpainting) -> torch.Tensor:
    """The picture that it began with, as noisy as the next step expects it."""
    kept = inpainting.image_latents
    if painting.num_steps_done < painting.num_steps:
        kept = painting.scheduler.add_noise(kept, inpainting.noise, painting.timestep[None])
    return (1 - inpainting.mask) * kept + inpainting.mask * latents


@contextmanager
def _scheduled(pipeline: Any, scheduler: Any) -> Iterator[None]:
    """Its methods work with the scheduler that it holds."""
    own, pipeline.scheduler = pipeline.scheduler, scheduler
    try:
        yield
    finally:
        pipeline.scheduler = own
