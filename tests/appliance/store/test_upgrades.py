"""From the database of every released version to this one's, also when the upgrade is killed. `benchmarks/faults.py`
kills it at every statement."""

import random
import signal
from pathlib import Path

import pytest

from tests.appliance.store.old_databases import NEWEST, check_rows, make_database, schema_of, upgrade_and_die

NUM_KILLS = 4


@pytest.mark.parametrize("schema", range(1, NEWEST + 1))
async def test_every_older_schema_is_upgraded_with_its_rows(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "hearth.db"
    make_database(path, schema)
    assert schema_of(path) == schema
    await check_rows(path)
    if schema < NEWEST:
        assert schema_of(tmp_path / f"hearth.db.schema-{schema:04}") == schema, "a copy is set aside"


async def test_an_upgrade_killed_at_any_statement_is_finished_by_the_next_start(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    for statement in random.Random(seed).sample(range(8, 50), NUM_KILLS):
        path = tmp_path / f"{statement}.db"
        make_database(path, schema=1)
        assert upgrade_and_die(path, statement) == -signal.SIGKILL
        await check_rows(path)
