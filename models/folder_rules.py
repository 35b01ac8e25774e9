"""What holds for every model's folder: configs are read strictly, pickles refused, and what is ignored is named."""

from typing import Any

from models.folder import ModelFolder
from models.refusal import ModelRefused, RefusalReason

REMOTE_CODE = "{}: auto_map names remote code, which is never run"

_CONFIG_BYTES_MAX = 4 * 1024 * 1024
_CONFIG_VALUES_MAX = 100_000
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib", ".dill")


def refuse_pickles(files: list[str]) -> None:
    """Raise ModelRefused for files whose reading could run code, whether they would be read or not."""
    for name in files:
        if name.lower().endswith(_PICKLE_SUFFIXES):
            message = "is in a format that can run code when read; only safetensors weights are taken, remove this file"
            raise ModelRefused(RefusalReason.PICKLE, message, name)


def read_config(folder: ModelFolder, name: str) -> dict[str, Any]:
    return folder.read_json(name, bytes_max=_CONFIG_BYTES_MAX, values_max=_CONFIG_VALUES_MAX)


def read_config_list(folder: ModelFolder, name: str) -> list[Any]:
    return folder.read_json_list(name, bytes_max=_CONFIG_BYTES_MAX, values_max=_CONFIG_VALUES_MAX)


def name_ignored(unused: list[str], folders: list[str]) -> list[str]:
    """One line for each kind of thing that is in the folder and will never be used."""
    names_by_fate = {
        "Python code is never run": [name for name in unused if name.endswith(".py")],
        "not part of the checkpoint, ignored": [name for name in unused if name.endswith(".safetensors")],
        "folders are ignored": folders,
    }
    return [f"{_listed(names)}: {fate}" for fate, names in names_by_fate.items() if names]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
