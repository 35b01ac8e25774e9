"""One file that holds what a daemon needs to start again, made whole or not at all."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyrage
import pytest

from appliance.errors import Code, HearthError
from appliance.operations.archive import MANIFEST, Manifest, read_manifest, read_members
from appliance.operations.backup import ABANDONED_AFTER_S, GONE, MODELS_NOT_WANTED, make_backup
from appliance.operations.encryption import Lock
from tests.appliance.operations.data_dir import BUILTIN, files, fill_data_dir

NOW = 1_795_000_000.0
IDENTITY = pyrage.x25519.Identity.generate()
SEALED = Lock(recipients=[str(IDENTITY.to_public())])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return fill_data_dir(tmp_path / "data")


def backup(data_dir: Path, target: Path, lock: Lock | None = None, with_models: bool = False) -> tuple[Path, Manifest]:
    return make_backup(
        data_dir,
        target,
        lock=lock,
        with_models=with_models,
        master_key_file=data_dir / "master-key",
        builtin_models={BUILTIN},
        now=NOW,
    )


def members(content: bytes) -> dict[str, bytes]:
    return {member.name: member.content.read() for member in read_members(io.BytesIO(content))}


def test_it_holds_the_database_its_audit_head_and_the_datasets_and_no_key_in_clear(
    data_dir: Path, tmp_path: Path
) -> None:
    path, manifest = backup(data_dir, tmp_path / "b.tar")
    held = members(path.read_bytes())
    assert held.keys() == {"audit-head", "hearth.db", "datasets/d-directory/examples.jsonl", MANIFEST}
    assert read_manifest(held[MANIFEST]) == manifest
    assert [(left.name, left.reason) for left in manifest.left_out] == [("accounts/acme/models/m", MODELS_NOT_WANTED)]
    assert not manifest.has_models
    assert not manifest.has_master_key
    assert manifest.create_time == "2026-11-18T11:06:40Z"
    for secret in ((data_dir / "master-key").read_bytes(), b"fw_secret"):
        assert secret not in path.read_bytes()


def test_an_encrypted_one_holds_the_keys_too_and_shows_nothing(data_dir: Path, tmp_path: Path) -> None:
    path, manifest = backup(data_dir, tmp_path / "b.age", SEALED, with_models=True)
    held = members(pyrage.decrypt(path.read_bytes(), [IDENTITY]))
    assert manifest.has_master_key
    assert held["master-key"] == (data_dir / "master-key").read_bytes()
    assert held["admin-api-key"] == b"fw_secret\n"
    for folder in ("models", "datasets"):
        for name, content in files(data_dir / folder).items():
            assert held[f"{folder}/{name}"] == content
    assert not manifest.left_out
    assert b"hearth.db" not in path.read_bytes()


def test_it_is_for_its_owner_only_and_leaves_the_data_directory_as_it_was(data_dir: Path, tmp_path: Path) -> None:
    before = files(data_dir)
    path, _ = backup(data_dir, tmp_path / "b.tar")
    assert path.stat().st_mode & 0o777 == 0o600
    after = files(data_dir)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() <= {"hearth.db-shm", "hearth.db-wal"}
    assert {found.name for found in tmp_path.iterdir()} == {"data", "b.tar"}


def test_a_folder_gets_a_file_per_backup_named_by_its_time(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    assert backup(data_dir, tmp_path / "backups")[0].name == "hearth-20261118T110640Z.tar"
    assert backup(data_dir, tmp_path / "backups", SEALED)[0].name == "hearth-20261118T110640Z.tar.age"


def test_nothing_that_exists_is_written_over(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("the only backup of last year")
    with pytest.raises(HearthError, match=r"b\.tar exists") as caught:
        backup(data_dir, tmp_path / "b.tar")
    assert caught.value.code is Code.CONFLICT
    assert (tmp_path / "b.tar").read_text() == "the only backup of last year"


def test_a_model_that_is_deleted_meanwhile_is_named_and_stops_nothing(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "models/m-directory/config.json").unlink()
    (data_dir / "models/m-directory/model.safetensors").unlink()
    (data_dir / "models/m-directory").rmdir()
    _, manifest = backup(data_dir, tmp_path / "b.tar", with_models=True)
    assert [(left.name, left.reason) for left in manifest.left_out] == [("accounts/acme/models/m", GONE)]


def test_a_link_in_a_model_folder_is_refused_by_name(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "models/m-directory/weights").symlink_to("/etc/passwd")
    with pytest.raises(HearthError, match="m-directory/weights is no plain file"):
        backup(data_dir, tmp_path / "b.tar", with_models=True)
    assert {found.name for found in tmp_path.iterdir()} == {"data"}


def test_a_directory_without_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(HearthError, match="no data directory of hearth"):
        backup(tmp_path / "data", tmp_path / "b.tar")
    assert {found.name for found in tmp_path.iterdir()} == {"data"}


def test_a_kill_leaves_no_half_backup_under_its_name(data_dir: Path, tmp_path: Path) -> None:
    """Killed after so many pieces were written, between the first and the last."""
    script = """
import os, signal, sys
from pathlib import Path
from appliance.operations.backup import make_backup
left = int(sys.argv[1])
def count(name, size):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
root = Path(sys.argv[2])
make_backup(root / "data", root / "b.tar", lock=None, with_models=True, master_key_file=root / "k",
    builtin_models=(), now=1.0, on_progress=count)
"""
    for num_pieces in (0, 2, 5):
        run = subprocess.run([sys.executable, "-c", script, str(num_pieces), str(tmp_path)], timeout=60)
        assert run.returncode == -signal.SIGKILL
        assert not (tmp_path / "b.tar").exists()
    assert not [name for name in files(data_dir) if re.match(r"\.backup", name)]
    parts = list(tmp_path.glob(".hearth-backup-*.part"))
    assert len(parts) == 3
    long_ago = time.time() - ABANDONED_AFTER_S - 1.0
    os.utime(parts[0], (long_ago, long_ago))
    backup(data_dir, tmp_path / "b.tar")
    assert not parts[0].exists()
    assert parts[1].exists(), "somebody may be writing it"
