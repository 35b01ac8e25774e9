"""Which kind of model a folder holds, and whether it can be served: it becomes one of the structs in `info.py`, or is
refused with a reason that names the file.

Everything is read as data: no class is looked up by a name found in the folder, no Python file in it is imported, and
formats whose reading runs code are refused. A worker may later read exactly the files that `file_sha256` lists.
"""

from collections.abc import Mapping
from pathlib import Path

from models.ctranslate2_file import MODEL_BIN
from models.diffusion_folder import MODEL_INDEX, inspect_diffusion, read_pipeline
from models.embedding_folder import check_embedding_config, inspect_embedding
from models.encoders import is_encoder
from models.folder import ModelFolder
from models.folder_rules import REMOTE_CODE, read_config
from models.info import AnyServedInfo
from models.llm_folder import check_llm_config, inspect_llm
from models.refusal import CONFIG, ModelRefused, RefusalReason
from models.sentence_modules import MODULES
from models.whisper_folder import inspect_whisper

__all__ = ["ModelRefused", "RefusalReason", "inspect_model"]


def inspect_model(
    directory: Path, known_sha256: Mapping[str, str] = {}, *, is_for_embedding: bool = False
) -> AnyServedInfo:
    """Read and check a model's folder; raises ModelRefused.

    `is_for_embedding`: a decoder is taken for an embedding or ranking model though nothing in its folder says so.
    Blocking: hashes every weight byte, except of files whose hash is known from an earlier inspection.
    """
    with ModelFolder(directory) as folder:
        files, _ = folder.list_entries()
        if MODEL_INDEX not in files and MODEL_BIN not in files:
            is_for_embedding = is_for_embedding or MODULES in files or is_encoder(read_config(folder, CONFIG))
    if MODEL_INDEX in files:
        return inspect_diffusion(directory, known_sha256)
    if MODEL_BIN in files:
        return inspect_whisper(directory, known_sha256)
    return inspect_embedding(directory, known_sha256) if is_for_embedding else inspect_llm(directory, known_sha256)


def check_config(directory: Path, *, is_for_embedding: bool = False) -> list[str]:
    """Whether its config alone is of a model that can be served; raises ModelRefused. Nothing else is looked at."""
    with ModelFolder(directory) as folder:
        files, _ = folder.list_entries()
        if MODEL_INDEX in files:
            read_pipeline(folder)
            return []
        config = read_config(folder, CONFIG)
        if MODEL_BIN in files:
            return []
        if is_for_embedding or MODULES in files or is_encoder(config):
            check_embedding_config(config)
        else:
            check_llm_config(config)
    return [REMOTE_CODE.format(CONFIG)] if "auto_map" in config else []
