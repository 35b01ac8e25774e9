"""Databases as earlier versions left them, with a row of every noun, and what must still be true of them."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from appliance.store import accounts, api_keys, deployments, models, replicas
from appliance.store.database import Database
from appliance.store.migration import prepare, read_migrations

NEWEST = len(read_migrations())

ROWS_OF_SCHEMA_1 = """
INSERT INTO accounts VALUES ('acme', 'Acme', 'a@acme.example', 1.0, 2.0);
INSERT INTO users VALUES ('acme', 'ada', 'Ada', 'ada@acme.example', 'admin', 0, 1.0, 2.0);
INSERT INTO api_keys VALUES ('acme', 'ada', 'key', 'laptop', x'0102', 1.0, NULL);
INSERT INTO models VALUES ('acme', 'm', 'M', 'mine', 'HF_BASE_MODEL', 'READY', '', 1, 'dir', NULL, 'ada', 1.0, 2.0);
INSERT INTO deployments VALUES ('acme', 'd', 'D', 'slow', 'accounts/acme/models/m', 'READY', '', 1, 3, 2,
    'NVIDIA_H100_80GB', 1, 'BF16', 4096, '{"team": "search"}', 'ada', 1.0, 2.0, NULL, NULL);
INSERT INTO deployed_models VALUES ('acme', 'dm', '', 'accounts/acme/models/m', 'accounts/acme/deployments/d', 1,
    'DEPLOYED', 1.0, 2.0);
INSERT INTO replicas VALUES ('acme', 'd', 0, '["GPU-1"]', 1000, 99999, 5, 'boot', 3.0);
"""


def make_database(path: Path, schema: int) -> None:
    """The rows were written under the first schema and have lived through the upgrades since."""
    migrations = read_migrations()
    prepare(path, migrations[:1])
    with closing(sqlite3.connect(path)) as db:
        db.executescript(ROWS_OF_SCHEMA_1)
    prepare(path, migrations[:schema])


def schema_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


async def check_rows(path: Path) -> None:
    """Opened as the daemon does, which upgrades it, every noun is there as it was."""
    database = await Database.open(path, bytes(32))
    try:
        async with database.reader() as db:
            account = await accounts.get(db, "acme")
            key = await api_keys.find(db, "key")
            model = await models.get(db, "acme", "m")
            deployment = await deployments.get(db, "acme", "d")
            rows = await replicas.list_all(db)
    finally:
        await database.close()
    assert schema_of(path) == NEWEST
    assert account is not None
    assert account.email == "a@acme.example"
    assert key is not None
    assert model is not None
    assert (model.directory, model.is_public) == ("dir", True)
    assert deployment is not None
    assert (deployment.min_replica_count, deployment.max_replica_count, deployment.desired_replica_count) == (1, 3, 2)
    assert (deployment.precision, deployment.annotations) == ("BF16", {"team": "search"})
    assert [(row.deployment_id, row.device_ids, row.pid) for row in rows] == [("d", ["GPU-1"], 99999)]


def upgrade_and_die(path: Path, statement: int) -> int:
    """How the process that upgraded it ended."""
    command = [sys.executable, "-m", "tests.appliance.store.upgrading_process", str(path), str(statement)]
    return subprocess.run(command, timeout=60, stderr=subprocess.DEVNULL).returncode
