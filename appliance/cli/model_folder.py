"""A person's folder of a model: which of its files are sent, and which names of a server's files stay inside it."""

from pathlib import Path

from appliance.cli.output import print_note
from appliance.sdk.errors import SdkError
from models.addon_config import ADDON_CONFIG
from models.ctranslate2_file import MODEL_BIN
from models.diffusion_folder import MODEL_INDEX
from models.folder import DEPTH_MAX
from models.folder_parts import WEIGHTS_SUFFIX, has_addon, model_files
from models.refusal import CONFIG


def files_of(folder: Path, *, is_addon: bool = False) -> list[Path]:
    """The files a model consists of. The daemon would refuse some of the others, and use none of them."""
    names = model_files(_names_in(folder))
    config = ADDON_CONFIG if is_addon else CONFIG
    is_there = has_addon(names) if is_addon else not {CONFIG, MODEL_INDEX}.isdisjoint(names)
    if not is_there:
        other = "; for a LoRA addon say its --base-model" if has_addon(names) else ""
        raise SdkError(f"{folder} has no {config}: it is not a Hugging Face model folder{other}")
    if not any(name.endswith((WEIGHTS_SUFFIX, MODEL_BIN)) for name in names):
        raise SdkError(f"{folder} has no {WEIGHTS_SUFFIX} files; weights in other formats must be converted first")
    tops = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if left_out := sorted(tops - {name.partition("/")[0] for name in names}):
        print_note(f"Not part of the model, left out: {', '.join(left_out)}")
    return [folder / name for name in names]


def _names_in(folder: Path) -> list[str]:
    """Of all that lies there, as deep as a model's files do; hidden things are none of a model's."""
    found: list[str] = []
    pending = [folder]
    while pending:
        for path in pending.pop().iterdir():
            name = path.relative_to(folder).as_posix()
            if path.name.startswith("."):
                continue
            if path.is_dir() and not path.is_symlink() and name.count("/") < DEPTH_MAX:
                pending.append(path)
            elif path.is_file():
                found.append(name)
    return found


def is_inside(name: str) -> bool:
    """Whether a name that a server gave stays in the folder that a person gave."""
    steps = name.split("/")
    return len(steps) <= DEPTH_MAX + 1 and all(step and not step.startswith(".") and "\\" not in step for step in steps)
