"""What lies in models' folders: sizes, the conversation config, and a copy of a folder with another one. Blocking.

The folder of a READY model never changes: workers may be reading it. A change makes a new folder of links to the same
files, which takes the old one's place in the row.
"""

import os
import stat
from pathlib import Path

from appliance.store.durable_files import move_into_place, sync_directory, write_private
from models.conversation import Conversation, TemplateError
from models.fireworks_json import FIREWORKS_JSON, JINJA, ConversationConfig, stated_config, with_config
from models.refusal import ModelRefused, RefusalReason
from models.rendering import Renderer
from models.tokenizer_files import CHAT_TEMPLATE, TOKENIZER_CONFIG

CONFIG_BYTES_MAX = 1024 * 1024
PROBE = Conversation(
    messages=[
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Hello again"},
    ]
)


def list_sizes(folder: Path) -> dict[str, int]:
    """Every file in it and in folders inside, by name; nothing where there is no folder yet."""
    sizes: dict[str, int] = {}
    for path, _, filenames in os.walk(folder):
        for filename in filenames:
            file = Path(path, filename)
            found = file.lstat()
            if stat.S_ISREG(found.st_mode):
                sizes[file.relative_to(folder).as_posix()] = found.st_size
    return sizes


def take_in(part: Path, folder: Path, filename: str) -> None:
    """Move a file that is synced into a folder, which is made if there is none."""
    make_folder(folder)
    _make_way(folder, filename)
    move_into_place(part, folder / filename)


def make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700)
        sync_directory(folder.parent)


def link_files(source: Path, target: Path, filenames: list[str]) -> None:
    """The same files under another folder, at no cost; on one file system. What is there already stays."""
    for filename in filenames:
        if not (target / filename).exists():
            _make_way(target, filename)
            os.link(source / filename, target / filename, follow_symlinks=False)
    for folder in {(target / filename).parent for filename in filenames} | {target}:
        sync_directory(folder)


def _make_way(folder: Path, filename: str) -> None:
    """The folders inside, which the file lies in."""
    for inner in reversed(Path(filename).parents[:-1]):
        make_folder(folder / inner)


def read_config(folder: Path) -> ConversationConfig | None:
    """None where the folder says nothing, or nothing that can be read: inspection tells of that."""
    try:
        return stated_config(_read(folder))
    except ModelRefused:
        return None


def write_config(folder: Path, config: ConversationConfig | None) -> None:
    """Put it into the folder, and try it; raises ModelRefused, and leaves what was there, if it cannot be used."""
    before = _read(folder)
    after = with_config(before, config)
    if len(after) > CONFIG_BYTES_MAX:
        raise ModelRefused(RefusalReason.TOO_LARGE, f"would have more than {CONFIG_BYTES_MAX} bytes", FIREWORKS_JSON)
    make_folder(folder)
    path = folder / FIREWORKS_JSON
    write_private(path, after)
    try:
        if config is not None:
            _try(folder, config)
    except ModelRefused:
        write_private(path, before)
        raise


def _try(folder: Path, config: ConversationConfig) -> None:
    """Render a conversation in a process that can be killed."""
    if config.style != JINJA:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, f"style {config.style[:40]!r} is not served, only {JINJA} is")
    if not config.template and not any((folder / name).exists() for name in (TOKENIZER_CONFIG, CHAT_TEMPLATE)):
        return  # it is said before the model's own has arrived
    with Renderer(folder) as renderer:
        try:
            renderer.render(PROBE)
        except TemplateError as error:
            raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error)) from error


def _read(folder: Path) -> bytes:
    try:
        with (folder / FIREWORKS_JSON).open("rb") as file:
            return file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return b"{}"
