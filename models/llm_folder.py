"""A language model's folder becomes a ModelInfo, or is refused with a reason that names the file."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from models.architectures import DecoderConfig, listed_token_ids, read_decoder_config
from models.checkpoint import Checkpoint, most_common_dtype, read_checkpoint
from models.folder import ModelFolder
from models.folder_rules import REMOTE_CODE, name_ignored, read_config, refuse_pickles
from models.info import AttentionInfo, ModelInfo
from models.refusal import CONFIG, ModelRefused, RefusalReason
from models.text_halves import IGNORED_TENSORS, has_unserved_half
from models.tokenizer_files import TOKENIZER, TOKENIZER_CONFIG, count_token_ids, read_conversation_files
from models.vision import VisionHalf, read_vision, text_config

GENERATION_CONFIG = "generation_config.json"
SAMPLING_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty")
"""What of it becomes a model's default sampling."""


class _GenerationConfig(msgspec.Struct, frozen=True):
    eos_token_id: int | list[int] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = None
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    typical_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None


def inspect_llm(directory: Path, known_sha256: Mapping[str, str] = {}) -> ModelInfo:
    """Read and check the folder; raises ModelRefused.

    Blocking: hashes every weight byte, except of files whose hash is known from an earlier inspection.
    """
    with ModelFolder(directory, known_sha256) as folder:
        files, folders = folder.list_entries()
        refuse_pickles(files)
        raw_config = read_config(folder, CONFIG)
        config = read_decoder_config(text_config(raw_config))
        if has_unserved_half(raw_config):
            config = config._replace(ignored_tensors=f"{config.ignored_tensors}|{IGNORED_TENSORS}")
        vision = read_vision(
            folder, files, raw_config, vocab_size=config.vocab_size, text_hidden_size=config.hidden_size
        )
        generation = _read_generation_config(folder, files)
        conversation = read_conversation_files(folder, files)
        eos_token_ids = listed_token_ids(generation.eos_token_id) or config.eos_token_ids
        _check_end_tokens(config, eos_token_ids)
        if not folder.is_as_known(TOKENIZER):  # parsing it takes half of what loading a small model does
            _check_token_ids(config, count_token_ids(folder, files))
        if config.fp8_layout is not None and vision is not None:
            message = "quantised weights are not supported in a model that reads images"
            raise ModelRefused(RefusalReason.UNSUPPORTED_QUANTIZATION, message, CONFIG)
        checkpoint = read_checkpoint(folder, files, config, vision)

        warnings = list(checkpoint.warnings)
        if has_unserved_half(raw_config):
            warnings.append(f"{CONFIG}: only the text half of this model is served, it cannot be sent images")
        remote_code = {CONFIG: "auto_map" in raw_config, TOKENIZER_CONFIG: conversation.names_remote_code}
        warnings += [REMOTE_CODE.format(name) for name in remote_code if remote_code[name]]
        warnings += conversation.warnings
        warnings += name_ignored([name for name in files if name not in folder.sha256], folders)
        if not eos_token_ids:
            warnings.append(f"{CONFIG}: names no end-of-sequence token; answers end only at their length limit")
        return _summarise(
            config,
            vision,
            checkpoint,
            has_chat_template=bool(conversation.template),
            supports_tools=conversation.supports_tools,
            eos_token_ids=eos_token_ids,
            default_sampling=_default_sampling(generation),
            warnings=warnings,
            file_sha256=dict(sorted(folder.sha256.items())),
        )


def check_llm_config(config: dict[str, Any]) -> None:
    """Whether config.json alone is of a model that can be served; raises ModelRefused."""
    read_decoder_config(text_config(config))


def _read_generation_config(folder: ModelFolder, files: list[str]) -> _GenerationConfig:
    if GENERATION_CONFIG not in files:
        return _GenerationConfig()
    try:
        return msgspec.convert(read_config(folder, GENERATION_CONFIG), _GenerationConfig)
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error), GENERATION_CONFIG) from error


def _default_sampling(generation: _GenerationConfig) -> dict[str, float]:
    stated = {name: getattr(generation, name) for name in SAMPLING_DEFAULTS}
    return {name: float(value) for name, value in stated.items() if value is not None}


def _check_token_ids(config: DecoderConfig, num_token_ids: int) -> None:
    if num_token_ids > config.vocab_size:
        message = f"produces ids up to {num_token_ids - 1}, but the model knows {config.vocab_size} (vocab_size)"
        raise ModelRefused(RefusalReason.INVALID_TOKENIZER, message, TOKENIZER)


def _check_end_tokens(config: DecoderConfig, eos_token_ids: list[int]) -> None:
    for token_id in eos_token_ids:
        if not 0 <= token_id < config.vocab_size:
            message = f"eos_token_id {token_id} is outside the vocabulary of {config.vocab_size}"
            raise ModelRefused(RefusalReason.INVALID_CONFIG, message, CONFIG)


def _summarise(
    config: DecoderConfig,
    vision: VisionHalf | None,
    checkpoint: Checkpoint,
    *,
    has_chat_template: bool,
    supports_tools: bool,
    eos_token_ids: list[int],
    default_sampling: dict[str, float],
    warnings: list[str],
    file_sha256: dict[str, str],
) -> ModelInfo:
    tensors = checkpoint.tensors
    return ModelInfo(
        architecture=config.name if vision is None else vision.architecture,
        model_type=config.model_type if vision is None else vision.model_type,
        dtype=most_common_dtype(tensors.values()),
        num_parameters=sum(math.prod(entry.shape) for _, entry in tensors.values()),
        weight_bytes=sum(entry.size_bytes for _, entry in [*tensors.values(), *checkpoint.scales.values()]),
        tied_embeddings=config.tied_embeddings,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        attention=AttentionInfo(
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_size=config.head_size,
            value_head_size=config.value_head_size,
            sliding_window=config.sliding_window,
            full_attention_layers=config.full_attention_layers,
            latent=config.latent,
        ),
        max_context_length=config.max_context_length,
        has_chat_template=has_chat_template,
        supports_tools=supports_tools,
        eos_token_ids=eos_token_ids,
        default_sampling=default_sampling,
        vision=None if vision is None else vision.info,
        fp8=checkpoint.fp8,
        warnings=warnings,
        file_sha256=file_sha256,
    )
