"""An embedding or ranking model's folder becomes an EmbeddingInfo: an encoder, a cross-encoder, or a decoder that was
made for it, with what sentence-transformers' files say of them.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from models.architectures import ARCHITECTURES, DecoderConfig, read_decoder_config
from models.checkpoint import (
    WEIGHTS,
    WEIGHTS_INDEX,
    StoredTensor,
    most_common_dtype,
    read_shards,
    require_tensors,
)
from models.decoder import Tensors, linear
from models.encoders import EncoderConfig, is_encoder, read_encoder
from models.folder import ModelFolder
from models.folder_rules import REMOTE_CODE, name_ignored, read_config, refuse_pickles
from models.info import EmbeddingInfo
from models.refusal import CONFIG, ModelRefused, RefusalReason, invalid_config
from models.sentence_modules import SentenceModules, read_sentence_modules
from models.tokenizer_files import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, count_token_ids, token_id

_CAUSAL = "ForCausalLM"
_BIDIRECTIONAL = "use_bidirectional_attention"
_LENGTH_STATED_MAX = 10**7
"""Tokenizers say something beyond all measure when they mean that there is no limit."""
_SMALL_FILE_BYTES_MAX = 16 * 1024 * 1024


def inspect_embedding(directory: Path, known_sha256: Mapping[str, str] = {}) -> EmbeddingInfo:
    """Read and check the folder; raises ModelRefused. Blocking: hashes every weight byte that is not known."""
    with ModelFolder(directory, known_sha256) as folder:
        files = folder.list_tree()
        refuse_pickles(files)
        config = read_config(folder, CONFIG)
        modules = read_sentence_modules(folder, files, config)
        tokenizer = _read_tokenizer_files(folder, files)
        stored = read_shards(folder, files)
        if is_encoder(config):
            info = _encoder(read_encoder(config), modules, stored)
        else:
            info = _decoder(folder, files, config, modules, stored)
        _check_ids(folder, files, info)
        stored |= _read_dense(folder, files, modules, info)
        warnings = list(info.warnings)
        remote_code = {CONFIG: "auto_map" in config, TOKENIZER_CONFIG: "auto_map" in tokenizer}
        warnings += [REMOTE_CODE.format(name) for name in remote_code if remote_code[name]]
        warnings += name_ignored([name for name in files if name not in folder.sha256], [])
        return replace(
            info,
            dtype=most_common_dtype(stored.values()),
            num_parameters=sum(math.prod(entry.shape) for _, entry in stored.values()),
            weight_bytes=sum(entry.size_bytes for _, entry in stored.values()),
            max_context_length=_reach(info.max_context_length, modules, tokenizer),
            warnings=warnings,
            file_sha256=dict(sorted(folder.sha256.items())),
        )


def check_embedding_config(config: dict[str, Any]) -> None:
    """Whether config.json alone is of a model that can be served; raises ModelRefused."""
    if is_encoder(config):
        read_encoder(config)
    else:
        _read_decoder(config)


def _encoder(config: EncoderConfig, modules: SentenceModules, stored: dict[str, StoredTensor]) -> EmbeddingInfo:
    encoder = config.encoder
    if config.is_cross_encoder and modules.pooling is not None:
        raise invalid_config("a model with a scoring head has no module that pools")
    prefix = encoder.prefix if config.is_cross_encoder else _stored_prefix(encoder.prefix, stored)
    layouts = [{prefix + name: shape for name, shape in layout.items()} for layout in encoder.layouts()]
    expected = next((layout for layout in layouts if layout.keys() <= stored.keys()), layouts[0])
    if config.is_cross_encoder:
        expected |= encoder.scoring_head()
    require_tensors(config.architecture, expected, stored, WEIGHTS)
    pooling = "none" if config.is_cross_encoder else modules.pooling or "mean"
    is_guess = pooling == "mean" and modules.pooling is None
    return EmbeddingInfo(
        **_facts(config.architecture, config.model_type, encoder, modules),
        num_dimensions=1 if config.is_cross_encoder else _dimensions(encoder.hidden_size, modules),
        max_context_length=encoder.reach,
        pooling=pooling,
        warnings=[*_keep(expected, stored), *(["the folder does not say how to pool: the mean is taken"] * is_guess)],
    )


def _decoder(
    folder: ModelFolder,
    files: list[str],
    config: dict[str, Any],
    modules: SentenceModules,
    stored: dict[str, StoredTensor],
) -> EmbeddingInfo:
    decoder = _read_decoder(config)
    expected = {name: shape for name, shape in decoder.tensors.items() if not name.startswith("lm_head.")}
    # Released files of embedding models leave out the part of names that the head's absence makes needless.
    if not any(name in stored for name in expected):
        expected = {name.removeprefix("model."): shape for name, shape in expected.items()}
    head = {name: shape for name, shape in decoder.tensors.items() if name.startswith("lm_head.")}
    has_head = head.keys() <= stored.keys()
    if has_head:
        expected |= head
    require_tensors(decoder.name, expected, stored, WEIGHTS_INDEX if WEIGHTS_INDEX in files else WEIGHTS)
    scores = modules.true_token_id is not None
    if modules.pooling is None and not scores:
        modules = modules._replace(
            true_token_id=token_id(folder, files, "yes"), false_token_id=token_id(folder, files, "no")
        )
    if scores and not has_head:
        raise ModelRefused(RefusalReason.MISSING_TENSOR, "it scores by the next token, but has no head", WEIGHTS)
    can_compare = has_head and None not in (modules.true_token_id, modules.false_token_id)
    return EmbeddingInfo(
        **_facts(decoder.name, decoder.model_type, decoder, modules),
        num_dimensions=1 if scores else _dimensions(decoder.hidden_size, modules),
        max_context_length=decoder.max_context_length,
        pooling="none" if scores else modules.pooling or "lasttoken",
        is_decoder=config.get(_BIDIRECTIONAL) is not True,
        has_head=has_head,
        true_token_id=modules.true_token_id if can_compare or scores else None,
        false_token_id=modules.false_token_id if can_compare or scores else None,
        warnings=_keep(expected, stored),
    )


def _read_decoder(config: dict[str, Any]) -> DecoderConfig:
    """As the language model's whose layers these are; only Gemma's may see later tokens."""
    if config.get("is_causal") is False:
        message = "a decoder whose tokens see later ones (is_causal) is not supported"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)
    config = {name: value for name, value in config.items() if name != _BIDIRECTIONAL or value is not True}
    match config.get("architectures"):
        case [str(name)] if name not in ARCHITECTURES:
            causal = name.removesuffix("Model").removesuffix("Text") + _CAUSAL
            if causal in ARCHITECTURES:
                config |= {"architectures": [causal]}
    decoder = read_decoder_config(config)
    if decoder.fp8_layout is not None:
        message = "quantised weights are not supported in a model that is served for its vectors or scores"
        raise ModelRefused(RefusalReason.UNSUPPORTED_QUANTIZATION, message, CONFIG)
    return decoder


def _facts(architecture: str, model_type: str, shape: Any, modules: SentenceModules) -> dict[str, Any]:
    """What encoders and decoders have under the same names."""
    return {
        "architecture": architecture,
        "model_type": model_type,
        "dtype": "",
        "num_parameters": 0,
        "weight_bytes": 0,
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_layers": shape.num_layers if isinstance(shape, DecoderConfig) else shape.num_hidden_layers,
        "num_heads": shape.num_heads if isinstance(shape, DecoderConfig) else shape.num_attention_heads,
        "includes_prompt": modules.includes_prompt,
        "dense": modules.dense,
        "is_normalized": modules.is_normalized,
        "prompts": modules.prompts,
        "default_prompt": modules.default_prompt,
        "is_lowercased": modules.is_lowercased,
        "score_activation": modules.score_activation,
    }


def _dimensions(hidden_size: int, modules: SentenceModules) -> int:
    size = hidden_size
    for dense in modules.dense:
        if dense.num_inputs != size:
            message = f"takes {dense.num_inputs} numbers, but there are {size}"
            raise ModelRefused(RefusalReason.INVALID_CONFIG, message, f"{dense.folder}/config.json")
        size = dense.num_outputs
    return size


def _stored_prefix(prefix: str, stored: dict[str, StoredTensor]) -> str:
    """An encoder alone may have been saved out of a model with a head, under that model's names."""
    return prefix if any(name.startswith(f"{prefix}embeddings.") for name in stored) else ""


def _keep(expected: Tensors, stored: dict[str, StoredTensor]) -> list[str]:
    """Forget tensors that are no part of what is served: another head, a pooler, what can be computed."""
    extra = sorted(stored.keys() - expected.keys())
    for name in extra:
        del stored[name]
    more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
    return [f"{extra[0]}{more}: tensors that are computed or not served are ignored"] if extra else []


def _read_dense(
    folder: ModelFolder, files: list[str], modules: SentenceModules, info: EmbeddingInfo
) -> dict[str, StoredTensor]:
    stored: dict[str, StoredTensor] = {}
    for dense in modules.dense:
        weights = f"{dense.folder}/{WEIGHTS}"
        tensors = read_shards(folder, files, weights, f"{dense.folder}/{WEIGHTS_INDEX}")
        expected = linear("linear", dense.num_outputs, dense.num_inputs, bias=dense.has_bias)
        require_tensors(info.architecture, expected, tensors, weights)
        stored |= {f"{dense.folder}/{name}": tensors[name] for name in expected}
    return stored


def _read_tokenizer_files(folder: ModelFolder, files: list[str]) -> dict[str, Any]:
    """Hashed because the worker reads them; what tokenizer_config.json says."""
    for name in (CHAT_TEMPLATE, "special_tokens_map.json", "added_tokens.json"):
        if name in files:
            folder.read(name, bytes_max=_SMALL_FILE_BYTES_MAX)
    return read_config(folder, TOKENIZER_CONFIG) if TOKENIZER_CONFIG in files else {}


def _check_ids(folder: ModelFolder, files: list[str], info: EmbeddingInfo) -> None:
    if folder.is_as_known(TOKENIZER):
        return
    largest = count_token_ids(folder, files)
    if largest > info.vocab_size:
        message = f"produces ids up to {largest - 1}, but the model knows {info.vocab_size} (vocab_size)"
        raise ModelRefused(RefusalReason.INVALID_TOKENIZER, message, TOKENIZER)


def _reach(positions: int, modules: SentenceModules, tokenizer: dict[str, Any]) -> int:
    """The least that anybody states: positions, sentence-transformers' file, the tokenizer's."""
    stated = tokenizer.get("model_max_length")
    lengths = [positions, modules.max_length or positions]
    if isinstance(stated, int) and 0 < stated < _LENGTH_STATED_MAX:
        lengths.append(stated)
    return min(lengths)
