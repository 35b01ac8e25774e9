"""Images and prompts that hold them, for the tests of this folder."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from models.info import VisionInfo
from models.vision import num_image_tokens
from runtime.llm.request import PromptImage


def random_pixels(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prompt_image(vision: VisionInfo, pixels: NDArray[np.uint8], start: int) -> PromptImage:
    height, width, _ = pixels.shape
    return PromptImage(
        start=start,
        num_tokens=num_image_tokens(vision, height, width),
        digest=blake2b(pixels.tobytes() + repr(pixels.shape).encode(), digest_size=16).digest(),
        pixels=pixels,
        grid=(1, height // vision.patch_size, width // vision.patch_size),
    )
