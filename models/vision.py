"""The half of a vision-language model that sees, and where it ends: what config.json says of it, checked.

The text half is a model of its own, under a prefix: `text_config` gives its config as if it stood alone, and
`vision_tensors.py` the names of its tensors, so that everything that serves text models serves it too.
"""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from models.folder import ModelFolder
from models.image_rules import ImageProcessor, area_size, fixed_size, read_image_processor
from models.info import AreaSize, FixedSize, ModelInfo, VisionInfo
from models.refusal import CONFIG, ModelRefused, RefusalReason, invalid_config
from models.text_halves import served_config
from models.vision_tensors import Tensors, clip_tensors, num_elements, projector_tensors, qwen2_vl_tensors

_Size = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]
_Edge = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Activation = Literal["gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish"]

# What transformers' config classes assume for fields that a nested text_config leaves out.
_TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"vocab_size": 32000, "intermediate_size": 11008, "max_position_embeddings": 2048, "eos_token_id": 2},
    "mistral": {
        "vocab_size": 32000,
        "intermediate_size": 14336,
        "max_position_embeddings": 4096 * 32,
        "num_key_value_heads": 8,
        "eos_token_id": 2,
    },
    "qwen2": {"vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768},
}
_SHARED_TEXT_DEFAULTS = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
_TEXT_ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM"}

_LLAVA, _QWEN2_VL = "LlavaForConditionalGeneration", "Qwen2VLForConditionalGeneration"
VISION_ARCHITECTURES = {_LLAVA: "llava", _QWEN2_VL: "qwen2_vl"}
"""Class name to model type."""


class VisionHalf(NamedTuple):
    architecture: str
    """Of the whole."""
    model_type: str
    info: VisionInfo
    tensors: Tensors
    """Canonical name and shape of every tensor that the encoder consists of."""


class _Clip(msgspec.Struct, frozen=True):
    """CLIPVisionConfig, with its defaults."""

    model_type: str = "clip_vision_model"
    hidden_size: _Size = 768
    intermediate_size: _Size = 3072
    num_hidden_layers: _Count = 12
    num_attention_heads: _Count = 12
    hidden_act: _Activation = "quick_gelu"
    num_channels: Literal[3] = 3
    image_size: _Edge = 224
    patch_size: _Edge = 32


class _Llava(msgspec.Struct, frozen=True):
    vision_config: _Clip
    image_token_index: _TokenId | None = None
    image_token_id: _TokenId | None = None
    projector_hidden_act: _Activation = "gelu"
    vision_feature_select_strategy: Literal["default", "full"] = "default"
    vision_feature_layer: Annotated[int, msgspec.Meta(ge=-1024, le=1024)] = -2
    multimodal_projector_bias: bool = True


class _QwenVision(msgspec.Struct, frozen=True):
    """Qwen2VLVisionConfig, with its defaults."""

    depth: _Count = 32
    embed_dim: _Size = 1280
    hidden_size: _Size = 3584
    mlp_ratio: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    num_heads: _Count = 16
    hidden_act: _Activation = "quick_gelu"
    in_channels: Literal[3] = 3
    patch_size: _Edge = 14
    spatial_merge_size: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    temporal_patch_size: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2


class _Qwen(msgspec.Struct, frozen=True):
    vision_config: _QwenVision
    image_token_id: _TokenId = 151655
    vision_start_token_id: _TokenId = 151652
    vision_end_token_id: _TokenId = 151653


def is_vision_config(config: dict[str, Any]) -> bool:
    """Whether config.json names one of the architectures of this file."""
    match config.get("architectures"):
        case [str(name)]:
            return name in VISION_ARCHITECTURES
    return False


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The text half's config.json as it would be alone; raises ModelRefused for a text half that is not served here.

    Both ways of writing it are read: nested under `text_config`, and Qwen2-VL's older one with its fields at the top.
    A model that reads text only is its own text half.
    """
    if not is_vision_config(config):
        return served_config(config)
    name, model_type = _architecture(config)
    nested = config.get("text_config")
    if nested is None and name == _LLAVA:
        raise invalid_config("text_config is missing")
    if not isinstance(nested, dict | None):
        raise invalid_config("text_config is not an object")
    text = dict(config if nested is None else nested)
    text_type = "qwen2" if model_type == "qwen2_vl" else text.get("model_type", "llama")
    if text_type not in _TEXT_ARCHITECTURES:
        message = f"{name} with a text half of type {str(text_type)[:40]!r} is not supported"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, CONFIG)
    if model_type == "qwen2_vl":
        text.setdefault("rms_norm_eps", 1e-5)
        text.setdefault("rope_theta", 1e6)
    for field in ("rope_scaling", "rope_parameters"):
        text[field] = _plain_rope(text.get(field))
    is_tied = config.get("tie_word_embeddings") or text.get("tie_word_embeddings") or False
    quantisation = {name: config[name] for name in ("quantization_config", "compression_config") if name in config}
    identity = {"architectures": [_TEXT_ARCHITECTURES[text_type]], "model_type": text_type}
    defaults = _SHARED_TEXT_DEFAULTS | _TEXT_DEFAULTS[text_type]
    return defaults | text | quantisation | identity | {"tie_word_embeddings": is_tied}


def read_vision(
    folder: ModelFolder, files: list[str], config: dict[str, Any], *, vocab_size: int, text_hidden_size: int
) -> VisionHalf | None:
    """Check the vision half's configs; raises ModelRefused naming the file at fault. None: there is no such half."""
    if not is_vision_config(config):
        return None
    name, _ = _architecture(config)
    read = _read_llava if name == _LLAVA else _read_qwen
    half = read(config, read_image_processor(folder, files), text_hidden_size)
    for token_id in (half.info.image_token_id, *(half.info.frame_token_ids or ())):
        if token_id >= vocab_size:
            raise invalid_config(f"the image token {token_id} is outside the vocabulary of {vocab_size}")
    return half


def text_half(info: ModelInfo) -> ModelInfo:
    """The model as if it were its text half alone; a model that reads text only is that already."""
    if info.vision is None:
        return info
    return msgspec.structs.replace(
        info, architecture=info.vision.text_architecture, model_type=info.vision.text_model_type
    )


def num_image_tokens(vision: VisionInfo, height: int, width: int) -> int:
    """Vectors that the encoder makes of an image of this size, which is one the rules bring about."""
    if vision.tokens_per_image is not None:
        return vision.tokens_per_image
    edge = vision.patch_size * vision.merge_size
    return (height // edge) * (width // edge)


def max_image_patches(vision: VisionInfo) -> int:
    """Of the largest image that the rules let through."""
    match vision.size:
        case FixedSize(height=height, width=width):
            return (height // vision.patch_size) * (width // vision.patch_size) + 1
        case AreaSize(max_pixels=max_pixels):
            return max_pixels // vision.patch_size**2


def _read_llava(config: dict[str, Any], processor: ImageProcessor, text_hidden: int) -> VisionHalf:
    raw = _convert(config, _Llava)
    clip = raw.vision_config
    if clip.model_type != "clip_vision_model":
        message = f"{_LLAVA} with an encoder of type {clip.model_type[:40]!r} is not supported"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, CONFIG)
    if clip.hidden_size % clip.num_attention_heads:
        raise invalid_config(f"vision_config: {clip.num_attention_heads} heads cannot share {clip.hidden_size} evenly")
    token_id = raw.image_token_index if raw.image_token_index is not None else raw.image_token_id
    num_patches = (clip.image_size // clip.patch_size) ** 2
    layer = raw.vision_feature_layer
    num_layers = layer if layer >= 0 else clip.num_hidden_layers + 1 + layer
    if not 1 <= num_layers <= clip.num_hidden_layers:
        raise invalid_config(f"vision_feature_layer {layer} is none of {clip.num_hidden_layers} layers")
    tensors = clip_tensors(
        hidden=clip.hidden_size,
        inner=clip.intermediate_size,
        patch=clip.patch_size,
        num_patches=num_patches,
        num_layers=clip.num_hidden_layers,
    ) | projector_tensors(hidden=clip.hidden_size, text_hidden=text_hidden, has_bias=raw.multimodal_projector_bias)
    text = text_config(config)
    info = VisionInfo(
        encoder="clip",
        text_architecture=text["architectures"][0],
        text_model_type=text["model_type"],
        image_token_id=32000 if token_id is None else token_id,
        num_parameters=num_elements(tensors),
        num_layers=num_layers,
        hidden_size=clip.hidden_size,
        intermediate_size=clip.intermediate_size,
        patch_size=clip.patch_size,
        tokens_per_image=num_patches + (raw.vision_feature_select_strategy == "full"),
        size=fixed_size(processor, clip.image_size),
        resample=processor.resample,
        rescale_factor=processor.rescale_factor,
        mean=processor.image_mean,
        std=processor.image_std,
    )
    return VisionHalf(_LLAVA, VISION_ARCHITECTURES[_LLAVA], info, tensors)


def _read_qwen(config: dict[str, Any], processor: ImageProcessor, text_hidden: int) -> VisionHalf:
    raw = _convert(config, _Qwen)
    vision = raw.vision_config
    if vision.embed_dim % (4 * vision.num_heads):
        raise invalid_config(f"vision_config: {vision.num_heads} heads cannot share {vision.embed_dim} evenly")
    if vision.hidden_size != text_hidden:
        raise invalid_config(f"vision_config: the encoder's {vision.hidden_size} are not the text half's {text_hidden}")
    stated = (processor.patch_size, processor.temporal_patch_size, processor.merge_size)
    built = (vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size)
    if any(one not in {None, other} for one, other in zip(stated, built, strict=True)):
        message = f"cuts images into patches {stated}, where the encoder in {CONFIG} reads {built}"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, processor.file)
    tensors = qwen2_vl_tensors(
        hidden=vision.embed_dim,
        inner=vision.embed_dim * vision.mlp_ratio,
        text_hidden=text_hidden,
        patch=vision.patch_size,
        num_frames=vision.temporal_patch_size,
        merge=vision.spatial_merge_size,
        num_layers=vision.depth,
    )
    text = text_config(config)
    info = VisionInfo(
        encoder="qwen2_vl",
        text_architecture=text["architectures"][0],
        text_model_type=text["model_type"],
        image_token_id=raw.image_token_id,
        frame_token_ids=(raw.vision_start_token_id, raw.vision_end_token_id),
        mrope_section=_mrope_section(config, text),
        num_parameters=num_elements(tensors),
        num_layers=vision.depth,
        hidden_size=vision.embed_dim,
        intermediate_size=vision.embed_dim * vision.mlp_ratio,
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        size=area_size(processor, vision.patch_size, vision.spatial_merge_size),
        resample=processor.resample,
        rescale_factor=processor.rescale_factor,
        mean=processor.image_mean,
        std=processor.image_std,
    )
    return VisionHalf(_QWEN2_VL, VISION_ARCHITECTURES[_QWEN2_VL], info, tensors)


def _mrope_section(config: dict[str, Any], text: dict[str, Any]) -> list[int]:
    nested = config.get("text_config") or config
    rope = nested.get("rope_parameters") or nested.get("rope_scaling") or {}
    stated = rope.get("mrope_section", [16, 24, 24]) if isinstance(rope, dict) else None
    head_size = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    match stated:
        case [int(time), int(height), int(width)] if (
            min(time, height, width) >= 0 and 2 * (time + height + width) == head_size
        ):
            return [time, height, width]
    raise invalid_config(f"mrope_section does not divide the {head_size // 2} frequencies of a head in three")


def _plain_rope(rope: object) -> object:
    """Without what only the three-dimensional positions need."""
    if not isinstance(rope, dict):
        return rope
    plain = {name: value for name, value in rope.items() if name != "mrope_section"}
    for name in ("type", "rope_type"):
        if plain.get(name) == "mrope":
            plain[name] = "default"
    return plain


def _architecture(config: dict[str, Any]) -> tuple[str, str]:
    [name] = config["architectures"]
    model_type = VISION_ARCHITECTURES[name]
    if config.get("model_type") != model_type:
        raise invalid_config(f"model_type must be {model_type!r} for {name}")
    return name, model_type


def _convert(value: object, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid_config(str(error)) from error
