"""Which of the files that lie together are a model's, by their names alone. Pure.

What is left out would be refused or ignored by inspection: code, pickles, pictures, copies in other formats.
"""

import re
from collections.abc import Iterable

from models.addon_config import ADDON_CONFIG
from models.ctranslate2_file import MODEL_BIN
from models.diffusion_folder import FEATURE_EXTRACTOR, MODEL_INDEX, SAFETY_CHECKER
from models.pipelines import PIPELINES
from models.refusal import CONFIG
from models.sentence_modules import MODULES
from models.whisper_folder import VOCABULARIES

WEIGHTS_SUFFIX = ".safetensors"
SUFFIXES = (WEIGHTS_SUFFIX, ".json", ".jinja", ".model", ".txt")
"""Weights, configuration, chat template, and the two older forms of a tokenizer."""

_MODULE = re.compile(r"\d{1,3}_[A-Za-z]+/[^/]+")
_CONTROL_NET = re.compile(r"controlnet/[^/]+/[^/]+")
_COMPONENTS = {name for pipeline in PIPELINES.values() for name in (*pipeline.parts, *pipeline.tokenizers)} | {
    "scheduler",
    SAFETY_CHECKER,
    FEATURE_EXTRACTOR,
}
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|non_ema|ema)(?=\.|-)")


def model_files(names: Iterable[str]) -> list[str]:
    """Those of the files that are of a model at all; folders' names are separated by `/`."""
    present = set(names)
    return sorted(name for name in present if _is_part(name, present))


def has_model(names: Iterable[str]) -> bool:
    """Whether there is a file by which a model, or an addon, can be told."""
    present = set(names)
    return not {CONFIG, MODEL_INDEX}.isdisjoint(present) or has_addon(present)


def has_addon(names: Iterable[str]) -> bool:
    """peft's has a config; one of an image model is a single file under any name."""
    present = set(names)
    weights = [name for name in present if name.endswith(WEIGHTS_SUFFIX)]
    return ADDON_CONFIG in present or (len(weights) == 1 and present.isdisjoint({CONFIG, MODEL_INDEX}))


def _is_part(name: str, present: set[str]) -> bool:
    if name == MODEL_BIN:
        return CONFIG in present and not present.isdisjoint(VOCABULARIES)
    if not name.endswith(SUFFIXES):
        return False
    folder, slash, _ = name.rpartition("/")
    if MODEL_INDEX in present:
        is_component = folder in _COMPONENTS or _CONTROL_NET.fullmatch(name) is not None
        return (is_component and not _is_copy(name, present)) or (not slash and not name.endswith(WEIGHTS_SUFFIX))
    return not slash or (MODULES in present and _MODULE.fullmatch(name) is not None)


def _is_copy(name: str, present: set[str]) -> bool:
    """Weights of another precision beside those with the plain name, or beside their index."""
    plain = _VARIANT.sub("", name)
    folder = f"{name.rpartition('/')[0]}/"
    return plain != name and any(
        other.startswith(folder) and other.endswith(WEIGHTS_SUFFIX) and not _VARIANT.search(other) for other in present
    )
