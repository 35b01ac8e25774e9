"""Which architectures can be served: the closed table, and a checked config.json as the rest of the house sees it.

An architecture is served when somebody compared it with its reference, not when it looks similar. Both styles of
config are read: transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`).
"""

from typing import Any, NamedTuple

import msgspec

from models.decoder import Decoder, Tensors
from models.families import (
    Gemma,
    Gemma2,
    Gemma3,
    GptBigCode,
    GptNeoX,
    Llama,
    Mistral,
    Phi,
    Phi3,
    Qwen2,
    Qwen3,
    StableLm,
    Starcoder2,
)
from models.fp8 import read_layout
from models.info import Fp8Layout, LatentInfo
from models.mixtures import DeepseekV2, Mixtral, Qwen2Moe, Qwen3Moe
from models.refusal import CONFIG, ModelRefused, RefusalReason, invalid_config
from models.text_halves import TEXT_HALVES
from models.vision import VISION_ARCHITECTURES


class Architecture(NamedTuple):
    model_type: str
    family: type[Decoder]


ARCHITECTURES = {
    "DeepseekV2ForCausalLM": Architecture("deepseek_v2", DeepseekV2),
    "GPTBigCodeForCausalLM": Architecture("gpt_bigcode", GptBigCode),
    "GPTNeoXForCausalLM": Architecture("gpt_neox", GptNeoX),
    "Gemma2ForCausalLM": Architecture("gemma2", Gemma2),
    "Gemma3ForCausalLM": Architecture("gemma3_text", Gemma3),
    "GemmaForCausalLM": Architecture("gemma", Gemma),
    "LlamaForCausalLM": Architecture("llama", Llama),
    "MistralForCausalLM": Architecture("mistral", Mistral),
    "MixtralForCausalLM": Architecture("mixtral", Mixtral),
    "Phi3ForCausalLM": Architecture("phi3", Phi3),
    "PhiForCausalLM": Architecture("phi", Phi),
    "Qwen2ForCausalLM": Architecture("qwen2", Qwen2),
    "Qwen2MoeForCausalLM": Architecture("qwen2_moe", Qwen2Moe),
    "Qwen3ForCausalLM": Architecture("qwen3", Qwen3),
    "Qwen3MoeForCausalLM": Architecture("qwen3_moe", Qwen3Moe),
    "StableLmForCausalLM": Architecture("stablelm", StableLm),
    "Starcoder2ForCausalLM": Architecture("starcoder2", Starcoder2),
}

_FAMILIES = dict(ARCHITECTURES.values())
"""By model type."""


class DecoderConfig(NamedTuple):
    """A checked config.json, with every default filled in."""

    name: str
    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    """Of the widest MLP that a token passes."""
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    value_head_size: int
    latent: LatentInfo | None
    max_context_length: int
    sliding_window: int | None
    full_attention_layers: list[int]
    """Those that the window does not apply to."""
    tied_embeddings: bool
    eos_token_ids: list[int]
    embedding: str
    """The tensor that a tied head shares."""
    head: str
    tensors: Tensors
    """Name and shape of everything that the architecture consists of, as stored; the head is absent when it is tied."""
    ignored_tensors: str
    """A pattern of tensors that old checkpoints store although they can be computed."""
    fp8_layout: Fp8Layout | None = None
    """How weights are quantised; None: they are not."""


def read_decoder_config(config: dict[str, Any]) -> DecoderConfig:
    """Check config.json against the table; raises ModelRefused naming the field at fault."""
    fp8_layout = read_layout(config)
    name, architecture = _find_architecture(config)
    described = describe(name, architecture.model_type, read_decoder(config, architecture.model_type))
    return described._replace(fp8_layout=fp8_layout)


def read_decoder(config: dict[str, Any], model_type: str) -> Decoder:
    """The decoder that a config or its `text_config` describes; raises ModelRefused for an unknown or senseless one."""
    if model_type not in _FAMILIES:
        served = ", ".join(sorted(_FAMILIES))
        message = f"a decoder of type {model_type[:100]!r} is not supported; supported are {served}"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, CONFIG)
    family = _FAMILIES[model_type]
    try:
        decoder = msgspec.convert(family.named(config), family)
    except msgspec.ValidationError as error:
        raise invalid_config(str(error)) from error
    decoder.check()
    return decoder


def describe(name: str, model_type: str, decoder: Decoder) -> DecoderConfig:
    rotary = decoder.rotary()
    windows = decoder.windows()
    return DecoderConfig(
        name=name,
        model_type=model_type,
        vocab_size=decoder.vocab_size,
        hidden_size=decoder.hidden_size,
        intermediate_size=decoder.widest_mlp,
        num_layers=decoder.num_hidden_layers,
        num_heads=decoder.num_attention_heads,
        num_kv_heads=decoder.num_kv_heads,
        head_size=decoder.head_size,
        value_head_size=decoder.value_head_size,
        latent=decoder.latent,
        max_context_length=rotary.max_context_length if rotary else decoder.max_position_embeddings,
        sliding_window=max((window for window in windows if window), default=None),
        full_attention_layers=[index for index, window in enumerate(windows) if not window] if any(windows) else [],
        tied_embeddings=decoder.tie_word_embeddings,
        eos_token_ids=listed_token_ids(decoder.eos_token_id),
        embedding=f"{decoder.embedding}.weight",
        head=f"{decoder.head}.weight",
        tensors=decoder.tensors(),
        ignored_tensors=rf"{decoder.layers}\.\d+\.{decoder.ignored_buffers}",
    )


def listed_token_ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _find_architecture(config: dict[str, Any]) -> tuple[str, Architecture]:
    match config.get("architectures"):
        case [str(name)]:
            architecture = ARCHITECTURES.get(name)
        case _:
            raise invalid_config("architectures does not name exactly one architecture")
    if architecture is None:
        served = ", ".join([*ARCHITECTURES, *TEXT_HALVES, *VISION_ARCHITECTURES])
        message = f"the architecture {name[:100]!r} is not supported; supported are {served}"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, CONFIG)
    if config.get("model_type") != architecture.model_type:
        raise invalid_config(f"model_type must be {architecture.model_type!r} for {name}")
    return name, architecture
