"""A data directory with a bit of everything in it, as a daemon that was stopped leaves it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from appliance.services import audit
from appliance.services.audit_head import AuditHead
from appliance.services.keyring import load_keyring
from appliance.store.database import Database

BUILTIN = "accounts/fireworks/models/ember-chat"
ROWS = """
INSERT INTO accounts (id, display_name, email, created_at, updated_at) VALUES ('acme', '', '', 1.0, 1.0);
INSERT INTO accounts (id, display_name, email, created_at, updated_at) VALUES ('fireworks', '', '', 1.0, 1.0);
INSERT INTO models (account_id, id, display_name, description, kind, state, status_message, is_public, directory,
    created_by, created_at, updated_at)
VALUES ('acme', 'm', '', '', 'HF_BASE_MODEL', 'READY', '', 0, 'm-directory', 'ada', 1.0, 1.0),
    ('acme', 'half', '', '', 'HF_BASE_MODEL', 'UPLOADING', '', 0, 'half-directory', 'ada', 1.0, 1.0),
    ('fireworks', 'ember-chat', '', '', 'HF_BASE_MODEL', 'READY', '', 1, 'ember-directory', '', 1.0, 1.0);
INSERT INTO datasets (account_id, id, display_name, state, status_message, directory, files, size_bytes, created_by,
    created_at, updated_at)
VALUES ('acme', 'd', '', 'READY', '', 'd-directory', '[]', 3, 'ada', 1.0, 1.0);
"""


def fill_data_dir(data_dir: Path) -> Path:
    """Two base models, one of them half uploaded, the built-in one and a dataset; ten rows of audit log."""
    data_dir.mkdir(mode=0o700)
    asyncio.run(_write_database(data_dir))
    with closing(sqlite3.connect(data_dir / "hearth.db")) as db:
        db.executescript(ROWS)
    (data_dir / "admin-api-key").write_text("fw_secret\n")
    for name, content in {
        "models/m-directory/model.safetensors": bytes(range(256)) * 5000,
        "models/m-directory/config.json": b"{}",
        "models/half-directory/config.json": b"{}",
        "models/ember-directory/config.json": b"{}",
        "datasets/d-directory/examples.jsonl": b"{}\n",
        "uploads/part": b"half a file",
    }.items():
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / name).write_bytes(content)
    return data_dir


async def _write_database(data_dir: Path) -> None:
    key = load_keyring(data_dir / "master-key").derive("audit/v1")
    database = await Database.open(data_dir / "hearth.db", key)
    head = AuditHead(database, data_dir / "hearth.db", key)
    await head.begin("acme", "version 1")
    for number in range(9):
        async with database.transaction() as tx:
            await audit.record_own_act(tx, "CreateModel", f"accounts/acme/models/{number}", "")
    await head.close()
    await database.close()


def states(data_dir: Path) -> dict[str, str]:
    """Of models and datasets, by id."""
    with closing(sqlite3.connect(data_dir / "hearth.db")) as db:
        return dict(db.execute("SELECT id, state FROM models UNION SELECT id, state FROM datasets").fetchall())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
