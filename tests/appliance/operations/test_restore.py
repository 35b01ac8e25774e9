"""From a backup to a data directory that a daemon starts on, or nothing at all."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyrage
import pytest

from appliance.errors import Code, HearthError
from appliance.operations.backup import make_backup
from appliance.operations.encryption import Key, Lock
from appliance.operations.restore import METHOD, Restored, restore_backup
from appliance.services.audit_verification import verify_log
from appliance.services.keyring import load_keyring
from appliance.store.lock import LOCK_FILE
from appliance.store.migration import prepare, read_migrations
from tests.appliance.operations.data_dir import BUILTIN, files, fill_data_dir, states

IDENTITY = pyrage.x25519.Identity.generate()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_data_dir(tmp_path_factory.mktemp("original") / "data")


@pytest.fixture(scope="module")
def plain(original: Path) -> Path:
    return backup(original, "plain.tar", None, with_models=False)


@pytest.fixture(scope="module")
def sealed(original: Path) -> Path:
    (original.parent / "identity").write_text(str(IDENTITY))
    return backup(original, "sealed.age", Lock(recipients=[str(IDENTITY.to_public())]), with_models=True)


def backup(data_dir: Path, name: str, lock: Lock | None, with_models: bool) -> Path:
    path, _ = make_backup(
        data_dir,
        data_dir.parent / name,
        lock=lock,
        with_models=with_models,
        master_key_file=data_dir / "master-key",
        builtin_models={BUILTIN},
        now=1.0,
    )
    return path


def restore(path: Path, data_dir: Path, master_key: Path | None = None, accept_audit_loss: bool = False) -> Restored:
    key = Key(identity_file=path.parent / "identity") if path.suffix == ".age" else Key()
    return restore_backup(
        path,
        data_dir,
        key=key,
        master_key_file=master_key,
        account_id="acme",
        builtin_models={BUILTIN},
        accept_audit_loss=accept_audit_loss,
    )


def audit_rows(data_dir: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(data_dir / "hearth.db")) as db:
        return db.execute("SELECT method, resource FROM audit_logs ORDER BY seq").fetchall()


def test_with_models_everything_is_back_where_it_was(original: Path, sealed: Path, tmp_path: Path) -> None:
    restored = restore(sealed, tmp_path / "new")
    assert not restored.incomplete
    assert not restored.audit_problem
    for name in ("models", "datasets"):
        assert files(tmp_path / "new" / name) == files(original / name)
    for name in ("master-key", "admin-api-key", "audit-head"):
        assert (tmp_path / "new" / name).read_bytes() == (original / name).read_bytes()
    assert states(tmp_path / "new") == states(original)
    expected = {"hearth.db", "hearth.lock", "master-key", "admin-api-key", "audit-head", "models", "datasets"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == expected
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert not [path for path in (tmp_path / "new").rglob("*") if path.stat().st_mode & 0o077]


def test_the_audit_log_goes_on_and_tells_of_the_restore(original: Path, sealed: Path, tmp_path: Path) -> None:
    restore(sealed, tmp_path / "new")
    assert audit_rows(tmp_path / "new") == [*audit_rows(original), (METHOD, "accounts/acme")]
    key = load_keyring(original / "master-key").derive("audit/v1")
    verdict = verify_log(tmp_path / "new" / "hearth.db", key)
    assert (verdict.last.seq, verdict.problem) == (11, "")


def test_models_that_are_not_in_it_wait_for_their_files(original: Path, plain: Path, tmp_path: Path) -> None:
    restored = restore(plain, tmp_path / "new", original / "master-key")
    assert restored.incomplete == ["accounts/acme/models/m"]
    assert states(tmp_path / "new") == {**states(original), "m": "UPLOADING"}
    assert audit_rows(tmp_path / "new")[-1] == (METHOD, "accounts/acme/models/m")
    assert files(tmp_path / "new/datasets") == files(original / "datasets")


def test_one_without_the_master_key_asks_for_it(original: Path, plain: Path, tmp_path: Path) -> None:
    with pytest.raises(HearthError, match="--master-key FILE"):
        restore(plain, tmp_path / "new")
    (tmp_path / "other-key").write_bytes(bytes(32))
    with pytest.raises(HearthError, match=r"audit log in the backup .* is not whole"):
        restore(plain, tmp_path / "new", tmp_path / "other-key")
    restore(plain, tmp_path / "new", original / "master-key")
    assert (tmp_path / "new/master-key").read_bytes() == (original / "master-key").read_bytes()
    assert (tmp_path / "new/master-key").stat().st_mode & 0o777 == 0o600


def test_an_audit_log_that_was_not_whole_can_be_taken_along_knowingly(tmp_path: Path) -> None:
    data_dir = fill_data_dir(tmp_path / "data")
    (data_dir / "audit-head").write_text("nonsense\n")
    path = backup(data_dir, "b.tar", None, with_models=False)
    with pytest.raises(HearthError, match="--accept-audit-loss"):
        restore(path, tmp_path / "new", data_dir / "master-key")
    restored = restore(path, tmp_path / "new", data_dir / "master-key", accept_audit_loss=True)
    assert "audit-head was changed" in restored.audit_problem


def test_a_backup_of_an_older_version_is_upgraded(original: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    prepare(tmp_path / "data/hearth.db", read_migrations()[:3])
    path = backup(tmp_path / "data", "old.tar", None, with_models=True)
    restore(path, tmp_path / "new", original / "master-key")
    with closing(sqlite3.connect(tmp_path / "new/hearth.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(read_migrations())


def test_a_directory_with_anything_in_it_is_refused_and_left_alone(original: Path, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/notes").write_text("mine")
    for target in (tmp_path / "new", original):
        before = files(target)
        with pytest.raises(HearthError, match="is not empty"):
            restore(plain, target, original / "master-key")
        assert files(target) == before


@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("is_cut", [True, False], ids=["cut off", "changed"])
@pytest.mark.parametrize("kind", ["plain", "sealed"])
def test_a_damaged_backup_is_refused_by_name_and_leaves_nothing(
    request: pytest.FixtureRequest, original: Path, tmp_path: Path, kind: str, where: float, is_cut: bool
) -> None:
    source: Path = request.getfixturevalue(kind)
    content = bytearray(source.read_bytes())
    # What pads a tar at its end holds nothing that could be lost.
    place = int(where * len(bytes(content).rstrip(b"\0")))
    if is_cut:
        del content[place:]
    else:
        content[place] ^= 0x40
    damaged = tmp_path / f"damaged{source.suffix}"
    damaged.write_bytes(content)
    (tmp_path / "identity").write_text(str(IDENTITY))
    with pytest.raises(HearthError, match=f"{damaged}") as caught:
        restore(damaged, tmp_path / "new", original / "master-key")
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {LOCK_FILE}


def test_a_killed_restore_is_nothing_a_daemon_starts_on_and_can_be_done_again(
    original: Path, plain: Path, tmp_path: Path
) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from appliance.operations.encryption import Key
from appliance.operations.restore import restore_backup
restore_backup(Path(sys.argv[1]), Path(sys.argv[2]), key=Key(), master_key_file=Path(sys.argv[3]), account_id="acme",
    builtin_models=(), on_progress=lambda name, size: os.kill(os.getpid(), signal.SIGKILL))
"""
    words = [sys.executable, "-c", script, str(plain), str(tmp_path / "new"), str(original / "master-key")]
    assert subprocess.run(words, timeout=60).returncode == -signal.SIGKILL
    with pytest.raises(HearthError, match=r"hearth\.db is empty"):
        prepare(tmp_path / "new/hearth.db", read_migrations())
    restore(plain, tmp_path / "new", original / "master-key")
    assert states(tmp_path / "new")["d"] == "READY"
