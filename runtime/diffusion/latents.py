"""From a model's latents to pixels, as diffusers' pipelines do it. One picture at a time: the decoder's memory is the
largest of all, and alone or not, a picture comes out the same."""

from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from runtime.diffusion.request import Pixels


class NoPicture(Exception):
    """What the model computed are no colours: its numbers left the range of its dtype."""


def decode_latents(vae: Any, latents: torch.Tensor, processor: VaeImageProcessor) -> Pixels:
    """`latents`: one picture's, as the VAE has them, scaled back already."""
    image = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
    if not bool(image.isfinite().all()):
        raise NoPicture(f"the picture has values that are no numbers in {vae.dtype}")
    values = processor.postprocess(image, output_type="np")[0]
    return np.asarray((values * 255).round(), dtype=np.uint8)


def upcast_where_needed(vae: Any) -> None:
    """Some VAEs overflow in float16, and say so in their config."""
    if vae.dtype == torch.float16 and vae.config.force_upcast:
        vae.to(dtype=torch.float32)


def as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels)
