"""The vision half of a model's load: encoder, memory for its outputs, and what the forward is given of them.

After it an image has been encoded, so that nothing is left to be found out by the first one.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.image_rules import scaled_size
from models.info import ModelInfo, VisionInfo
from models.sizing import image_cache_bytes
from models.vision import num_image_tokens
from runtime.llm.request import PromptImage
from runtime.llm.vision.encoders import load_encoder
from runtime.llm.vision.features import ImageFeatures
from runtime.llm.vision.inputs import VisionInputs


def load_vision(
    text_model: Any, directory: Path, info: ModelInfo, *, dtype: torch.dtype, device: torch.device
) -> VisionInputs | None:
    """`text_model` is loaded already. None: the model reads text only."""
    if info.vision is None:
        return None
    encoder = load_encoder(directory, info, dtype=dtype, device=device)
    features = ImageFeatures(encoder, image_cache_bytes(info, str(dtype).removeprefix("torch.")))
    features.advance([_blank_image(info.vision)], math.inf)
    embed_tokens = getattr(text_model, text_model.base_model_prefix).embed_tokens
    merge_size = None if info.vision.mrope_section is None else info.vision.merge_size
    return VisionInputs(embed_tokens, features, merge_size)


def _blank_image(vision: VisionInfo) -> PromptImage:
    """As small as the rules let one be."""
    height, width = scaled_size(vision.size, 1, 1)
    return PromptImage(
        start=0,
        num_tokens=num_image_tokens(vision, height, width),
        digest=b"warm-up",
        pixels=np.zeros((height, width, 3), dtype=np.uint8),
        grid=(1, height // vision.patch_size, width // vision.patch_size),
    )
