"""Backup and restore as an operator types them; what they write is tested in tests/appliance/operations."""

from pathlib import Path

import msgspec
import pyrage
import pytest

from tests.appliance.cli.conftest import Hearth
from tests.fakes.daemon_thread import daemon_in_thread


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    (tmp_path / "identity").write_text(str(pyrage.x25519.Identity.generate()))
    return tmp_path / "identity"


def recipient(identity: Path) -> str:
    return str(pyrage.x25519.Identity.from_str(identity.read_text()).to_public())


def test_an_encrypted_backup_comes_back_with_its_key(hearth: Hearth, identity: Path, tmp_path: Path) -> None:
    made = hearth("backup", str(tmp_path), "--recipient", recipient(identity), "--with-models", "-o", "json")
    assert made.exit_code == 0, made.err
    about = msgspec.json.decode(made.out)
    assert about["isEncrypted"]
    assert about["hasMasterKey"]
    assert about["path"].endswith(".tar.age")
    refused = hearth("restore", about["path"], "--data-dir", str(tmp_path / "new"))
    assert refused.exit_code == 1
    assert "--identity FILE" in refused.err
    back = hearth("restore", about["path"], "--data-dir", str(tmp_path / "new"), "--identity", str(identity))
    assert back.exit_code == 0, back.err
    assert back.out.startswith(f"Restored {tmp_path / 'new'} from the backup made 20")
    assert f"Next: hearth serve --data-dir {tmp_path / 'new'}" in back.out
    assert (tmp_path / "new/admin-api-key").read_text().strip() == hearth.daemon.api_key


def test_one_in_clear_says_what_it_lacks(hearth: Hearth, checkpoint: Path, tmp_path: Path) -> None:
    model_id = "a-file-left-out"  # the first of all: of many not every one is named
    assert hearth("create", "model", model_id, str(checkpoint), "--quiet").exit_code == 0
    made = hearth("backup", str(tmp_path / "b.tar"))
    assert made.exit_code == 0, made.err
    assert "not encrypted" in made.out
    assert f"Without the files of accounts/hearth/models/{model_id}" in made.err
    assert "Without the master key" in made.err
    words = ("restore", str(tmp_path / "b.tar"), "--data-dir", str(tmp_path / "new"))
    assert "--master-key FILE" in hearth(*words).err
    back = hearth(*words, "--master-key", str(hearth.daemon.data_dir / "master-key"))
    assert back.exit_code == 0, back.err
    assert f"To be uploaded again, with hearth create model ID FOLDER: accounts/hearth/models/{model_id}" in back.err
    again = hearth(*words)
    assert again.exit_code == 1
    assert "is not empty" in again.err
    assert hearth("delete", "model", model_id).exit_code == 0


def test_a_model_whose_files_were_not_in_it_is_created_again(
    hearth: Hearth, model_id: str, checkpoint: Path, tmp_path: Path
) -> None:
    master_key = str(hearth.daemon.data_dir / "master-key")
    assert hearth("backup", str(tmp_path / "b.tar")).exit_code == 0
    assert hearth("restore", str(tmp_path / "b.tar"), "--data-dir", str(tmp_path / "new"), "--master-key", master_key)
    # The administrator's key in clear is in no backup that is not encrypted; he has it.
    (tmp_path / "new/admin-api-key").write_text(hearth.daemon.api_key)
    with daemon_in_thread(tmp_path / "new") as daemon:
        restored = Hearth(daemon)
        shown = restored("get", "model", model_id)
        assert "UPLOADING" in shown.out
        uploaded = restored("create", "model", model_id, str(checkpoint), "--quiet")
        assert uploaded.exit_code == 0, uploaded.err
        assert "READY" in restored("get", "model", model_id).out


def test_the_configured_recipient_needs_no_option(hearth: Hearth, identity: Path, tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text(f'backup_recipients = ["{recipient(identity)}"]\n')
    made = hearth("backup", str(tmp_path / "b"), "--config", str(tmp_path / "hearth.toml"))
    assert made.exit_code == 0, made.err
    assert "files, encrypted" in made.out


def test_what_cannot_be_is_one_line(hearth: Hearth, identity: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for words in (
        ("--recipient", "nonsense"),
        ("--recipient", recipient(identity), "--passphrase-file", str(identity)),
        ("--passphrase-file", str(tmp_path / "empty")),
        ("--passphrase-file", str(tmp_path / "none")),
        ("--data-dir", str(tmp_path / "none")),
    ):
        refused = hearth("backup", str(tmp_path / "b.tar"), *words)
        assert (refused.exit_code, refused.out) == (1, ""), words
        assert refused.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"identity", "empty"}
