"""Whether a picture may be shown, by the safety checker of the model's own folder; what may not is made black."""

import numpy as np
import torch

from runtime.diffusion.engine import Painted
from runtime.diffusion.latents import as_image
from runtime.diffusion.parts import SafetyParts
from runtime.diffusion.request import Pixels


def check_safety(pixels: Pixels, parts: SafetyParts) -> Painted:
    inputs = parts.extractor(as_image(pixels), return_tensors="pt").pixel_values
    reference = next(parts.checker.parameters())
    with torch.inference_mode():
        _, filtered = parts.checker(
            clip_input=inputs.to(reference.device, reference.dtype), images=np.zeros((1, 1, 1, 3), dtype=np.float32)
        )
    return Painted(np.zeros_like(pixels), True) if filtered[0] else Painted(pixels, False)
