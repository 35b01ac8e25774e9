"""`hearth backup` and `hearth restore`: for whoever may read the daemon's files. They ask no daemon anything."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.commands import Command, Session
from appliance.cli.output import print_json, print_line, print_note, progress_line, readable_time
from appliance.cli.units import readable_bytes
from appliance.config import Config, load_config
from appliance.errors import Code, HearthError

if TYPE_CHECKING:
    from appliance.operations.archive import Manifest
    from appliance.operations.encryption import Lock
    from appliance.operations.restore import Restored

NAMES_SHOWN = 10
PROGRESS_INTERVAL_S = 0.2

ConfigFile = Annotated[Path | None, typer.Option(metavar="FILE", help="The daemon's TOML file.")]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="The daemon's. Default: ~/.local/share/hearth.")]
PassphraseFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Its first line is the passphrase.")]
MasterKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--master-key-file", "--master-key", metavar="FILE", help="Default: master-key in the data directory."
    ),
]


def backup(
    session: Session,
    target: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A folder gets a file named by the time.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    with_models: Annotated[bool, typer.Option("--with-models", help="Also the files of models.")] = False,
    recipient: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Encrypt to this public key of age or SSH; may be repeated."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    master_key_file: MasterKeyFile = None,
) -> None:
    """Write the daemon's state to one file, also while it runs.

    Only an encrypted backup holds the master key and the administrator's; for another, keep the master key elsewhere.
    Without --with-models a restored model waits for its files to be uploaded again. Exit status 1: no backup was made.
    """
    from appliance.operations.backup import MASTER_KEY, make_backup

    settings = load_config(config, {"data_dir": data_dir})
    directory = _directory(settings)
    lock = _lock(recipient or [], passphrase_file, settings)
    with _progress() as advance:
        path, manifest = make_backup(
            directory,
            target,
            lock=lock,
            with_models=with_models,
            master_key_file=master_key_file or settings.master_key_file or directory / MASTER_KEY,
            builtin_models=_builtin_models(settings),
            now=time.time(),
            on_progress=advance,
        )
    size_bytes = path.stat().st_size
    if session.is_json:
        about = {"path": str(path), "sizeBytes": size_bytes, "isEncrypted": lock is not None}
        return print_json({**about, **_summary(manifest)})
    kind = "encrypted" if lock is not None else "not encrypted"
    print_line(f"Wrote {path}: {readable_bytes(size_bytes)}, {len(manifest.files)} files, {kind}")
    if manifest.left_out:
        print_note(f"Without the files of {_names([left_out.name for left_out in manifest.left_out])}")
    if not manifest.has_master_key:
        print_note("Without the master key: keep that elsewhere, hearth restore will ask for it")
    return None


def restore(
    session: Session,
    backup_file: Annotated[Path, typer.Argument(metavar="FILE", help="As hearth backup wrote it.")],
    data_dir: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty directory.")],
    config: ConfigFile = None,
    identity: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The age identity or SSH key that it was encrypted to.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    master_key_file: MasterKeyFile = None,
    accept_audit_loss: Annotated[
        bool, typer.Option("--accept-audit-loss", help="Even if the audit log was not whole.")
    ] = False,
) -> None:
    """Make a data directory from a backup.

    All of it is checked first: every hash, the database, the audit log. What is refused leaves nothing behind. A
    database of an older version is upgraded.
    """
    from appliance.operations.encryption import Key
    from appliance.operations.restore import restore_backup

    settings = load_config(config, {"data_dir": data_dir})
    with _progress() as advance:
        restored = restore_backup(
            backup_file,
            _directory(settings),
            key=Key(identity, _read_passphrase(passphrase_file)),
            master_key_file=master_key_file,
            account_id=settings.identity.account_id,
            builtin_models=_builtin_models(settings),
            accept_audit_loss=accept_audit_loss,
            on_progress=advance,
        )
    if session.is_json:
        about = {"dataDir": str(data_dir), "incomplete": restored.incomplete, "auditProblem": restored.audit_problem}
        return print_json({**about, **_summary(restored.manifest)})
    return _show_restored(restored, data_dir)


def _show_restored(restored: "Restored", data_dir: Path) -> None:
    manifest = restored.manifest
    made = f"made {readable_time(manifest.create_time)} by hearth {manifest.hearth_version}"
    print_line(f"Restored {data_dir} from the backup {made}: {len(manifest.files)} files, all as they were backed up")
    if restored.incomplete:
        print_note(f"To be uploaded again, with hearth create model ID FOLDER: {_names(restored.incomplete)}")
    if restored.audit_problem:
        print_note(f"Its audit log was not whole: {restored.audit_problem}")
    print_line(f"Next: hearth serve --data-dir {data_dir}, as the user whom that directory belongs to")


def _summary(manifest: "Manifest") -> dict[str, object]:
    """All but the list of files, which may be long."""
    return {
        "hearthVersion": manifest.hearth_version,
        "schema": manifest.schema,
        "createTime": manifest.create_time,
        "hasModels": manifest.has_models,
        "hasMasterKey": manifest.has_master_key,
        "leftOut": manifest.left_out,
        "fileCount": len(manifest.files),
    }


def _lock(recipients: list[str], passphrase_file: Path | None, settings: Config) -> "Lock | None":
    from appliance.operations.encryption import Lock

    passphrase = _read_passphrase(passphrase_file)
    if passphrase is not None and recipients:
        raise HearthError(Code.INVALID, "give either --recipient or --passphrase-file: age cannot do both")
    if passphrase is not None:
        return Lock(passphrase=passphrase)
    chosen = recipients or settings.backup_recipients
    return Lock(recipients=chosen) if chosen else None


def _read_passphrase(file: Path | None) -> str | None:
    if file is None:
        return None
    lines = file.read_text().splitlines()
    if not lines or not lines[0]:
        raise HearthError(Code.INVALID, f"the passphrase file {file} has no first line")
    return lines[0]


def _builtin_models(settings: Config) -> set[str]:
    from models.builtin import BUILTIN_MODELS

    return {f"accounts/{settings.identity.library_account_id}/models/{builtin.id}" for builtin in BUILTIN_MODELS}


def _directory(settings: Config) -> Path:
    return settings.data_dir.expanduser().absolute()


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """For a person who waits; a script is told of the end only."""
    if not sys.stderr.isatty():
        yield lambda name, size: None
        return
    with progress_line() as line:
        done_bytes, shown_at = 0, 0.0

        def advance(name: str, size: int) -> None:
            nonlocal done_bytes, shown_at
            done_bytes += size
            if time.monotonic() - shown_at > PROGRESS_INTERVAL_S:
                line.show(f"{readable_bytes(done_bytes)}, {name}")
                shown_at = time.monotonic()

        yield advance


COMMANDS = [
    Command(
        "backup",
        None,
        backup,
        (
            "hearth backup /var/backups/ --recipient age1…",
            "hearth backup before-upgrade.tar --data-dir /var/lib/hearth",
        ),
        is_local=True,
    ),
    Command(
        "restore",
        None,
        restore,
        (
            "hearth restore hearth-20261120T101500Z.tar.age --data-dir /srv/hearth \\\n      --identity key.txt",
            "hearth restore plain.tar --data-dir /srv/hearth --master-key master-key",
        ),
        is_local=True,
    ),
]
