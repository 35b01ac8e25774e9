"""A CTranslate2 folder of the Whisper family becomes a WhisperInfo, or is refused with a reason that names the file."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from models.ctranslate2_file import MODEL_BIN, CTranslate2File, read_model_bin
from models.folder import ModelFolder
from models.folder_rules import name_ignored, read_config, refuse_pickles
from models.info import WhisperInfo
from models.refusal import CONFIG, ModelRefused, RefusalReason
from models.tokenizer_files import TOKENIZER, TOKENIZER_CONFIG, count_token_ids

SPECIFICATION = "WhisperSpec"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
WINDOW_FRAMES = 1500
"""Positions that the encoder makes of 30 s."""

_VOCABULARY_BYTES_MAX = 16 * 1024 * 1024
_VOCABULARY_SIZE_MAX = 200_000
_MULTILINGUAL_TOKEN = ""
"""The vocabulary of every multilingual model holds an empty text, no other does: CTranslate2 tells them apart by it."""
_LAYER = re.compile(r"(encoder|decoder)/layer_(\d+)/.+")


_SHAPES_NEEDED = {
    "encoder/conv1/weight": 3,
    "encoder/position_encodings/encodings": 2,
    "decoder/position_encodings/encodings": 2,
    "decoder/embeddings/weight": 2,
}
_T = TypeVar("_T")


class _Config(msgspec.Struct, frozen=True):
    suppress_ids: list[int] | None = None
    suppress_ids_begin: list[int] | None = None
    lang_ids: list[int] | None = None
    alignment_heads: list[tuple[int, int]] | None = None


class _Preprocessor(msgspec.Struct, frozen=True):
    feature_size: int | None = None
    sampling_rate: int = 16_000
    hop_length: int = 160
    n_fft: int = 400
    chunk_length: int = 30
    """Seconds that the model is best given at once; engines cut longer sound."""


def inspect_whisper(directory: Path, known_sha256: Mapping[str, str] = {}) -> WhisperInfo:
    """Read and check the folder; raises ModelRefused. Blocking: hashes every weight byte that is not known."""
    with ModelFolder(directory, known_sha256) as folder:
        files, folders = folder.list_entries()
        refuse_pickles([name for name in files if name != MODEL_BIN])
        with folder.open(MODEL_BIN) as file:
            content = read_model_bin(file)
            folder.hash(MODEL_BIN, file)
        info = _describe(content)
        config = _read(folder, CONFIG, _Config)
        preprocessor = _read(folder, PREPROCESSOR_CONFIG, _Preprocessor) if PREPROCESSOR_CONFIG in files else None
        vocabulary = _read_vocabulary(folder, files)
        num_token_ids = max(count_token_ids(folder, files), len(vocabulary))
        if TOKENIZER_CONFIG in files:
            read_config(folder, TOKENIZER_CONFIG)
        _check(info, config, preprocessor, num_token_ids)
        return msgspec.structs.replace(
            info,
            is_multilingual=_MULTILINGUAL_TOKEN in vocabulary,
            warnings=name_ignored([name for name in files if name not in folder.sha256], folders),
            file_sha256=dict(sorted(folder.sha256.items())),
        )


def _describe(content: CTranslate2File) -> WhisperInfo:
    if content.specification != SPECIFICATION:
        message = f"holds a {content.specification[:40]}; of CTranslate2 models only Whisper is served"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, MODEL_BIN)
    variables = content.variables
    shapes = {name: variables[name].shape for name in _SHAPES_NEEDED if name in variables}
    for name, rank in _SHAPES_NEEDED.items():
        if len(shapes.get(name, ())) != rank:
            message = f"needs {name!r} with {rank} dimensions"
            raise ModelRefused(RefusalReason.MISSING_TENSOR, message, MODEL_BIN)
    hidden_size, num_mel_bins, _ = shapes["encoder/conv1/weight"]
    layers: dict[str, set[int]] = {"encoder": set(), "decoder": set()}
    for name in variables:
        if match := _LAYER.fullmatch(name):
            layers[match[1]].add(int(match[2]))
    if any(not found or found != set(range(len(found))) for found in layers.values()):
        raise ModelRefused(RefusalReason.MISSING_TENSOR, "lacks layers of its encoder or decoder", MODEL_BIN)
    if shapes["encoder/position_encodings/encodings"] != (WINDOW_FRAMES, hidden_size):
        message = f"does not read windows of 30 s, {WINDOW_FRAMES} positions"
        raise ModelRefused(RefusalReason.WRONG_TENSOR, message, MODEL_BIN)
    weights = {name: variable for name, variable in variables.items() if len(variable.shape) > 1}
    bytes_by_dtype: Counter[str] = Counter()
    for name, variable in weights.items():
        if _LAYER.fullmatch(name):  # what stands around the layers is not always converted with them
            bytes_by_dtype[variable.dtype] += variable.size_bytes
    return WhisperInfo(
        architecture="WhisperForConditionalGeneration",
        model_type="whisper",
        dtype=bytes_by_dtype.most_common(1)[0][0],
        num_parameters=sum(math.prod(variable.shape) for variable in weights.values()),
        weight_bytes=sum(variable.size_bytes for variable in variables.values()),
        max_context_length=shapes["decoder/position_encodings/encodings"][0],
        is_multilingual=False,
        num_mel_bins=num_mel_bins,
        num_encoder_layers=len(layers["encoder"]),
        num_decoder_layers=len(layers["decoder"]),
        hidden_size=hidden_size,
        vocab_size=shapes["decoder/embeddings/weight"][0],
    )


def _check(info: WhisperInfo, config: _Config, preprocessor: _Preprocessor | None, num_token_ids: int) -> None:
    """What the files say of one another must hold, or the library reads beyond its tables."""
    if num_token_ids > info.vocab_size:
        message = f"has ids up to {num_token_ids - 1}, but the model knows {info.vocab_size}"
        raise ModelRefused(RefusalReason.INVALID_TOKENIZER, message, TOKENIZER)
    listed = [*(config.suppress_ids or []), *(config.suppress_ids_begin or []), *(config.lang_ids or [])]
    if any(not -1 <= token_id < info.vocab_size for token_id in listed):
        raise ModelRefused(RefusalReason.INVALID_CONFIG, f"names a token id beyond {info.vocab_size}", CONFIG)
    if any(
        not (0 <= layer < info.num_decoder_layers and 0 <= head < 128) for layer, head in config.alignment_heads or []
    ):
        raise ModelRefused(RefusalReason.INVALID_CONFIG, "alignment_heads names a head that is not there", CONFIG)
    if preprocessor is not None and (
        preprocessor.feature_size not in (None, info.num_mel_bins)
        or (preprocessor.sampling_rate, preprocessor.hop_length) != (16_000, 160)
        or preprocessor.n_fft != 400
        or not 1 <= preprocessor.chunk_length <= 30
    ):
        message = f"does not prepare sound as this model reads it: 16 kHz, {info.num_mel_bins} bands, 1 to 30 s"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, PREPROCESSOR_CONFIG)


def _read_vocabulary(folder: ModelFolder, files: list[str]) -> list[str]:
    name = next((name for name in VOCABULARIES if name in files), VOCABULARIES[0])
    if name.endswith(".json"):
        listed = folder.read_json_list(name, bytes_max=_VOCABULARY_BYTES_MAX, values_max=4 * _VOCABULARY_SIZE_MAX)
    else:
        try:
            listed = folder.read(name, bytes_max=_VOCABULARY_BYTES_MAX).decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ModelRefused(RefusalReason.INVALID_TOKENIZER, "is not UTF-8", name) from error
    if not 0 < len(listed) <= _VOCABULARY_SIZE_MAX or not all(isinstance(token, str) for token in listed):
        raise ModelRefused(RefusalReason.INVALID_TOKENIZER, "is not a list of tokens", name)
    return listed


def _read(folder: ModelFolder, name: str, type_: type[_T]) -> _T:
    try:
        return msgspec.convert(read_config(folder, name), type_)
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error), name) from error
