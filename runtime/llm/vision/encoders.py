"""The halves of vision-language models that see: an image's pixels in, a row for each of its placeholder tokens out.

The towers are transformers' own, with its plain attention; an image is always encoded alone, so that what comes out
does not depend on who else sent one. Normalising pixels and cutting them into patches is done here, as the models'
own image processors do.
"""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.info import ModelInfo, VisionInfo
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.loader import fill_skeleton, parameters_on_meta
from runtime.llm.request import PromptImage
from runtime.llm.vision.features import Encoding


class ImageEncoder(nn.Module):
    """Base of both; parameters carry the names of `models/vision_tensors.py`."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {}

    def __init__(self, vision: VisionInfo) -> None:
        super().__init__()
        self.info = vision
        levels = (np.arange(256, dtype=np.float64) * vision.rescale_factor).astype(np.float32)
        mean, deviation = np.array(vision.mean, dtype=np.float32), np.array(vision.std, dtype=np.float32)
        self._normalised: NDArray[np.float32] = (levels[:, np.newaxis] - mean) / deviation
        """By level and channel."""

    def encode(self, image: PromptImage) -> Encoding:
        """Layer by layer; in the end [tokens, hidden size of the text half]."""
        raise NotImplementedError

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """From [height, width, 3] to [3, height, width]."""
        channels = [self._normalised[pixels[..., channel], channel] for channel in range(3)]
        return np.stack(channels)


class ClipEncoder(ImageEncoder):
    """CLIP's patches as some layer leaves them, projected: LLaVA."""

    def __init__(self, vision: VisionInfo, config: Any) -> None:
        from transformers.models.clip.modeling_clip import CLIPVisionModel
        from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

        super().__init__(vision)
        self.vision = CLIPVisionModel(config.vision_config)
        del self.vision.encoder.layers[vision.num_layers :], self.vision.post_layernorm
        self.projector = LlavaMultiModalProjector(config)

    def encode(self, image: PromptImage) -> Encoding:
        weight = self.vision.embeddings.patch_embedding.weight
        pixels = torch.from_numpy(self.normalise(image.pixels)).to(weight.device, weight.dtype)
        hidden_states = self.vision.pre_layrnorm(self.vision.embeddings(pixels.unsqueeze(0)))
        for layer in self.vision.encoder.layers:
            hidden_states = layer(hidden_states, None)
            yield
        rows: torch.Tensor = self.projector(hidden_states[0, -image.num_tokens :])  # the class token leads
        return rows


class Qwen2VlEncoder(ImageEncoder):
    """Patches of any number, neighbours merged."""

    def __init__(self, vision: VisionInfo, config: Any) -> None:
        from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

        super().__init__(vision)
        self.vision = Qwen2VisionTransformerPretrainedModel(config.vision_config)
        self._num_frames = int(config.vision_config.temporal_patch_size)

    def encode(self, image: PromptImage) -> Encoding:
        weight = self.vision.patch_embed.proj.weight
        patches = torch.from_numpy(self.cut(image.pixels)).to(weight.device, weight.dtype)
        hidden_states = self.vision.patch_embed(patches)
        rotation = self.vision.rotary_pos_emb(hidden_states, self._places(image).to(weight.device))
        ends = torch.tensor([0, len(patches)], dtype=torch.int32, device=weight.device)
        for block in self.vision.blocks:
            hidden_states = block(hidden_states, cu_seqlens=ends, position_embeddings=rotation)
            yield
        rows: torch.Tensor = self.vision.merger(hidden_states)
        return rows

    def _places(self, image: PromptImage) -> torch.Tensor:
        """[patches, 2]: row and column of each patch, in the order of `cut`."""
        _, height, width = image.grid
        merged = self.info.merge_size
        places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), dim=-1)
        split = places.view(height // merged, merged, width // merged, merged, 2)
        return split.transpose(1, 2).reshape(-1, 2)

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[patches, elements]: those that are merged follow one another; a still image fills every frame of a patch."""
        size, merged = self.info.patch_size, self.info.merge_size
        height, width, _ = pixels.shape
        split = (3, height // size // merged, merged, size, width // size // merged, merged, size)
        patches = self.normalise(pixels).reshape(split).transpose(1, 4, 2, 5, 0, 3, 6)
        frames = np.repeat(patches[:, :, :, :, :, np.newaxis], self._num_frames, axis=5)
        return frames.reshape((height // size) * (width // size), -1)


def load_encoder(directory: Path, info: ModelInfo, *, dtype: torch.dtype, device: torch.device) -> ImageEncoder:
    """Ready to run. The text half is loaded by `loader.py`."""
    assert info.vision is not None
    # Heavy, so only where a vision-language model is loaded: the towers need all of transformers.
    from transformers import LlavaConfig, Qwen2VLConfig

    classes: dict[str, tuple[type[ClipEncoder] | type[Qwen2VlEncoder], Any]] = {
        "clip": (ClipEncoder, LlavaConfig),
        "qwen2_vl": (Qwen2VlEncoder, Qwen2VLConfig),
    }
    encoder_class, config_class = classes[info.vision.encoder]
    config = config_class.from_dict(json.loads((directory / "config.json").read_bytes()))
    config.vision_config._attn_implementation = "sdpa"
    with parameters_on_meta():
        encoder = encoder_class(info.vision, config).eval()
    checkpoint = Checkpoint.of_model(directory, info)
    fill_skeleton(encoder, checkpoint, info, dtype=dtype, device=device)
    return encoder
