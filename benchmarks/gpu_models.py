"""Models of known shapes with random weights, made on the device the way a load makes them, without a file of weights.

A shape is a config of transformers. Weights are drawn into the loader's own skeleton and patched by the loader; what is
switched off is left out there. One model is held at a time.
"""

import gc
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from models.architectures import read_decoder_config
from models.info import AttentionInfo, ModelInfo
from runtime.llm.attention_choice import choose_attention
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.kernel_choice import Kernels, choose_kernels
from runtime.llm.linear import Packing
from runtime.llm.loader import build_skeleton, make_ready

LLAMA_8B, QWEN3_06B = "llama-8b", "qwen3-0.6b"
BLOCK_SIZE = 32

_TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 320,
    "max_position_embeddings": 512,
}
_CONFIGS: dict[str, dict[str, Any]] = {
    LLAMA_8B: {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    QWEN3_06B: {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    },
}
_COMMON = {"hidden_act": "silu", "attention_bias": False, "bos_token_id": 0, "eos_token_id": 1, "dtype": "bfloat16"}


class Switches(NamedTuple):
    """What of the engine is on. Whatever is off is done by what it replaces."""

    is_patched: bool = True
    has_kernels: bool = True
    has_paged_kernels: bool = True
    """Attention by Triton's kernels; else gathered, by torch."""
    has_graphs: bool = True
    looks_ahead: bool = True

    @property
    def of_model(self) -> "Switches":
        """Without those that are the engine's, for which no other model is made."""
        return self._replace(has_graphs=True, looks_ahead=True)


EVERYTHING = Switches()


class BuiltModel(NamedTuple):
    model: Any
    packing: Packing
    info: ModelInfo
    kernels: Kernels
    switches: Switches
    linear_paths: list[str]
    """Of the decoder's linear layers, as transformers calls them."""

    def attention(self, device: torch.device, dtype: torch.dtype, num_blocks: int) -> GatherAttention:
        """With memory for so many blocks, the trash block among them."""
        return choose_attention(
            self.info.attention,
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            dtype=dtype,
            device=device,
            backend="auto" if self.switches.has_paged_kernels else "gather",
        )


class Shelf:
    """Holds the model that was asked for last, and no other."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._key: tuple[str, bool, Switches] | None = None
        self._built: BuiltModel | None = None

    def get(self, shape: str, *, is_tiny: bool, switches: Switches = EVERYTHING) -> BuiltModel:
        switches = switches.of_model
        key = (shape, is_tiny, switches)
        if self._built is None or self._key != key:
            self.clear()
            self._built = build_model(
                config_of(shape, is_tiny=is_tiny), device=self._device, dtype=self._dtype, switches=switches
            )
            self._key = key
        return self._built

    def clear(self) -> None:
        self._built = self._key = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def config_of(shape: str, *, is_tiny: bool) -> dict[str, Any]:
    return _CONFIGS[shape] | _COMMON | (_TINY if is_tiny else {})


def build_model(
    config: dict[str, Any], *, device: torch.device, dtype: torch.dtype, switches: Switches = EVERYTHING
) -> BuiltModel:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(config))
        skeleton = build_skeleton(Path(directory), describe(config, 0))
    info = describe(config, _draw_weights(skeleton, device, dtype, is_tied=config["tie_word_embeddings"]))
    paths = [path for path, module in skeleton.named_modules() if isinstance(module, nn.Linear) and path != "lm_head"]
    kernels = choose_kernels(device, dtype, are_enabled=switches.has_kernels)
    enable_patches = switches.is_patched
    packing = make_ready(skeleton, info, lambda weight: None, enable_patches=enable_patches, operations=kernels.layer)
    return BuiltModel(skeleton, packing, info, kernels, switches, paths)


def _draw_weights(skeleton: Any, device: torch.device, dtype: torch.dtype, *, is_tied: bool) -> int:
    """As a training would begin; returns how many there are."""
    for module in skeleton.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            values = torch.empty(parameter.shape, dtype=dtype, device=device)
            values = values.normal_(0, 0.02) if parameter.dim() > 1 else values.fill_(1.0)
            setattr(module, name, nn.Parameter(values, requires_grad=False))
    if is_tied:
        skeleton.lm_head.weight = getattr(skeleton, skeleton.base_model_prefix).embed_tokens.weight
    skeleton.to(device)  # buffers
    return sum(parameter.numel() for parameter in skeleton.parameters())


def describe(config: dict[str, Any], num_parameters: int) -> ModelInfo:
    """What an inspection of a folder with this config would find."""
    decoder = read_decoder_config(config)
    return ModelInfo(
        architecture=decoder.name,
        model_type=decoder.model_type,
        dtype="bfloat16",
        num_parameters=num_parameters,
        weight_bytes=2 * num_parameters,
        max_context_length=decoder.max_context_length,
        tied_embeddings=decoder.tied_embeddings,
        vocab_size=decoder.vocab_size,
        hidden_size=decoder.hidden_size,
        intermediate_size=decoder.intermediate_size,
        attention=AttentionInfo(
            num_layers=decoder.num_layers,
            num_heads=decoder.num_heads,
            num_kv_heads=decoder.num_kv_heads,
            head_size=decoder.head_size,
            value_head_size=decoder.value_head_size,
        ),
        has_chat_template=False,
        eos_token_ids=[1],
    )
