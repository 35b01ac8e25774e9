"""Upgrades a database and is killed before the n-th statement of that; exits 0 when there are fewer.

`python -m tests.appliance.store.upgrading_process PATH N`
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.store.migration import prepare, read_migrations


def die_at(statement: int) -> Callable[[str], None]:
    num_seen = 0

    def count(sql: str) -> None:
        nonlocal num_seen
        num_seen += 1
        if num_seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def main(path: Path, statement: int) -> None:
    connect, on_statement = sqlite3.connect, die_at(statement)

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(on_statement)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]
    prepare(path, read_migrations())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
