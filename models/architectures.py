"""Which architectures can be served, what their config.json must say, and which tensors of which shape they consist of.

The table is closed: an architecture is served when somebody compared it with its reference, not when it looks similar.
Both styles of config are read: transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`).
"""

import math
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from models.refusal import ModelRefused, RefusalReason

CONFIG = "config.json"

# Bounds keep later arithmetic and the list of expected tensors small whatever the file says.
_Size = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Architecture(NamedTuple):
    model_type: str
    default_head_size: int | None = None
    """None: hidden size over heads."""
    has_qkv_bias: bool = False
    reads_attention_bias: bool = False
    """Whether `attention_bias` gives all four projections a bias."""
    reads_mlp_bias: bool = False
    has_qk_norm: bool = False
    window: Literal["none", "every layer", "by layer"] = "none"
    """Which layers `sliding_window` applies to."""


ARCHITECTURES = {
    "LlamaForCausalLM": Architecture("llama", reads_attention_bias=True, reads_mlp_bias=True),
    "MistralForCausalLM": Architecture("mistral", window="every layer"),
    "Qwen2ForCausalLM": Architecture("qwen2", has_qkv_bias=True, window="by layer"),
    "Qwen3ForCausalLM": Architecture(
        "qwen3", default_head_size=128, reads_attention_bias=True, has_qk_norm=True, window="by layer"
    ),
}

# Parameters that each kind of rotary embedding needs beside its base. The kinds `dynamic` and `longrope` are absent on
# purpose: they choose frequencies by the longest request in a batch, so one request would change another's tokens.
_ROPE_PARAMETERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
}


class DecoderConfig(NamedTuple):
    """A checked config.json, with every default filled in."""

    name: str
    architecture: Architecture
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    max_context_length: int
    sliding_window: int | None
    tied_embeddings: bool
    has_attention_bias: bool
    has_mlp_bias: bool
    eos_token_ids: list[int]


class _RawConfig(msgspec.Struct, frozen=True):
    """The fields of config.json that are read, with the defaults that transformers' config classes share."""

    architectures: list[str]
    model_type: str
    vocab_size: _Size
    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: _Count
    num_attention_heads: _Count
    max_position_embeddings: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    num_key_value_heads: _Count | None = None
    head_dim: _Count | None = None
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = 4096
    use_sliding_window: bool = False
    max_window_layers: Annotated[int, msgspec.Meta(ge=0)] = 28
    layer_types: list[str] | None = None
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float | None = None
    eos_token_id: int | list[int] | None = None


def read_decoder_config(config: dict[str, Any]) -> DecoderConfig:
    """Check config.json against the table; raises ModelRefused naming the field at fault."""
    _refuse_quantised(config)
    name, architecture = _find_architecture(config)
    try:
        raw = msgspec.convert(config, _RawConfig)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    if raw.hidden_act not in {"silu", "swish"}:
        raise _invalid(f"hidden_act {raw.hidden_act[:40]!r} is not supported, only 'silu' is")
    num_kv_heads = raw.num_key_value_heads or raw.num_attention_heads
    if raw.num_attention_heads % num_kv_heads:
        raise _invalid(f"{raw.num_attention_heads} attention heads cannot share {num_kv_heads} key-value heads evenly")
    return DecoderConfig(
        name=name,
        architecture=architecture,
        vocab_size=raw.vocab_size,
        hidden_size=raw.hidden_size,
        intermediate_size=raw.intermediate_size,
        num_layers=raw.num_hidden_layers,
        num_heads=raw.num_attention_heads,
        num_kv_heads=num_kv_heads,
        head_size=_head_size(raw, architecture),
        max_context_length=_max_context_length(raw),
        sliding_window=_sliding_window(raw, architecture),
        tied_embeddings=raw.tie_word_embeddings,
        has_attention_bias=architecture.reads_attention_bias and raw.attention_bias,
        has_mlp_bias=architecture.reads_mlp_bias and raw.mlp_bias,
        eos_token_ids=listed_token_ids(raw.eos_token_id),
    )


def expected_tensors(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the architecture consists of; the head is absent when it is tied."""
    hidden, vocab = config.hidden_size, config.vocab_size
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not config.tied_embeddings:
        tensors["lm_head.weight"] = (vocab, hidden)
    layer = _layer_tensors(config)
    for index in range(config.num_layers):
        tensors.update({f"model.layers.{index}.{name}": shape for name, shape in layer.items()})
    return tensors


def listed_token_ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _layer_tensors(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    query, key_value = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
    projections = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key_value, hidden),
        "self_attn.v_proj": (key_value, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    tensors: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in projections.items()}
    for name, (num_rows, _) in projections.items():
        is_qkv = name in {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
        has_bias = config.has_mlp_bias if name.startswith("mlp.") else config.has_attention_bias
        if has_bias or (is_qkv and config.architecture.has_qkv_bias):
            tensors[f"{name}.bias"] = (num_rows,)
    tensors["input_layernorm.weight"] = tensors["post_attention_layernorm.weight"] = (hidden,)
    if config.architecture.has_qk_norm:
        tensors["self_attn.q_norm.weight"] = tensors["self_attn.k_norm.weight"] = (config.head_size,)
    return tensors


def _find_architecture(config: dict[str, Any]) -> tuple[str, Architecture]:
    match config.get("architectures"):
        case [str(name)]:
            architecture = ARCHITECTURES.get(name)
        case _:
            raise _invalid("architectures does not name exactly one architecture")
    if architecture is None:
        served = ", ".join(ARCHITECTURES)
        message = f"the architecture {name[:100]!r} is not supported; supported are {served}"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, CONFIG)
    if config.get("model_type") != architecture.model_type:
        raise _invalid(f"model_type must be {architecture.model_type!r} for {name}")
    return name, architecture


def _refuse_quantised(config: dict[str, Any]) -> None:
    for field in ("quantization_config", "compression_config"):
        if (quantisation := config.get(field)) is not None:
            method = quantisation.get("quant_method") if isinstance(quantisation, dict) else None
            message = f"{field}: weights quantised by {str(method)[:40]!r} are not supported"
            raise ModelRefused(RefusalReason.UNSUPPORTED_QUANTIZATION, message, CONFIG)


def _head_size(raw: _RawConfig, architecture: Architecture) -> int:
    head_size = raw.head_dim or architecture.default_head_size
    if head_size is None:
        if raw.hidden_size % raw.num_attention_heads:
            raise _invalid(f"hidden_size {raw.hidden_size} is no multiple of {raw.num_attention_heads} attention heads")
        head_size = raw.hidden_size // raw.num_attention_heads
    if head_size % 2:
        raise _invalid(f"heads of {head_size} elements cannot carry a rotary embedding: the size must be even")
    return head_size


def _sliding_window(raw: _RawConfig, architecture: Architecture) -> int | None:
    match architecture.window:
        case "none":
            return None
        case "every layer":
            return raw.sliding_window
    window = raw.sliding_window if raw.use_sliding_window else None
    if raw.layer_types is not None:
        num_sliding = raw.layer_types.count("sliding_attention")
        is_known = raw.layer_types.count("full_attention") == raw.num_hidden_layers - num_sliding
    else:
        num_sliding = max(0, raw.num_hidden_layers - raw.max_window_layers) if window is not None else 0
        is_known = True
    if is_known and num_sliding == 0:
        return None
    if is_known and num_sliding == raw.num_hidden_layers and window is not None:
        return window
    message = "layers with different attention windows (layer_types, max_window_layers) are not supported"
    raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)


def _max_context_length(raw: _RawConfig) -> int:
    """What the model was trained for; with YaRN, what its scaling extends that to."""
    stated = {"rope_theta": raw.rope_theta, "partial_rotary_factor": raw.partial_rotary_factor}
    rope = stated | (raw.rope_scaling or raw.rope_parameters or {})
    rope_type = rope.pop("rope_type", rope.pop("type", "default"))
    if not isinstance(rope_type, str) or rope_type not in _ROPE_PARAMETERS:
        message = f"rotary embeddings of type {str(rope_type)[:40]!r} are not supported"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)
    for name, value in rope.items():
        if not (value is None or isinstance(value, int | float)):
            raise _invalid(f"the rotary embedding's {name[:40]!r} is not a number")
    if rope["partial_rotary_factor"] not in {None, 1.0}:
        message = "heads that are rotated in part (partial_rotary_factor) are not supported"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)
    numbers = {name: _positive(rope, name) for name in _ROPE_PARAMETERS[rope_type]}
    if rope["rope_theta"] is not None:
        _positive(rope, "rope_theta")
    if rope_type != "yarn":
        return raw.max_position_embeddings
    original = rope.get("original_max_position_embeddings", raw.max_position_embeddings)
    if type(original) is not int or not 1 <= original <= raw.max_position_embeddings:
        raise _invalid("original_max_position_embeddings of the rotary embedding is not a length within the context")
    return max(raw.max_position_embeddings, math.floor(original * min(numbers["factor"], 1024)))


def _positive(rope: dict[str, Any], name: str) -> float:
    value = rope.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        raise _invalid(f"the rotary embedding's {name} is not a positive number")
    return float(value)


def _invalid(message: str) -> ModelRefused:
    return ModelRefused(RefusalReason.INVALID_CONFIG, message, CONFIG)
