"""What lies in the data directory: who may read it, how much room there is, whether the state is sound.

Reads only, also beside a running daemon; of keys no more than their length.
"""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.config import GIB, MIB, Config
from appliance.errors import HearthError
from appliance.operations.backup import ADMIN_KEY, DATABASE, MASTER_KEY
from appliance.operations.findings import Finding, Verdict, ok, problem, warning
from appliance.services.audit_verification import Verdict as AuditVerdict
from appliance.services.audit_verification import verify_log
from appliance.services.keyring import Keyring, load_keyring
from appliance.store.audit_chain import read_chain
from appliance.store.lock import find_lock_holder
from appliance.store.migration import read_migrations
from appliance.store.snapshot import check_copy

SPACE_SCARCE_BYTES = 2 * GIB
SPACE_SCARCE_SHARE = 0.05
SPACE_GONE_BYTES = 512 * MIB
CLOCK_SKEW_S = 60.0
"""What a clock that is set right may have jumped back."""
OTHERS = 0o077


def check_state(config: Config, data_dir: Path) -> Iterator[Finding]:
    holder = find_lock_holder(data_dir)
    if holder is None:
        yield check_port(config.server.host, config.server.port)
    if not data_dir.exists():
        yield warning("Data directory", f"{data_dir} is not there", "hearth serve makes it; or name one: --data-dir")
        return
    yield (directory := check_directory(data_dir))
    if directory.verdict is Verdict.PROBLEM:
        return
    yield check_space(data_dir)
    yield check_private_files(data_dir)
    keyring, finding = check_master_key(config.master_key_file or data_dir / MASTER_KEY, data_dir)
    yield finding
    if (data_dir / DATABASE).exists():
        yield check_database(data_dir / DATABASE)
        if keyring is not None:
            yield from check_audit_log(data_dir / DATABASE, keyring)


def check_directory(data_dir: Path) -> Finding:
    about = data_dir.stat()
    if not os.access(data_dir, os.R_OK | os.X_OK):
        return problem(
            "Data directory", f"{data_dir} may not be read", "run this as the user of the daemon, or as root"
        )
    if about.st_mode & OTHERS:
        return warning("Data directory", f"{data_dir} is open to other users", f"chmod 700 {data_dir}")
    if about.st_uid != os.geteuid() and os.geteuid() != 0:
        return warning(
            "Data directory", f"{data_dir} belongs to user {about.st_uid}", "serve as the user it belongs to"
        )
    return ok("Data directory", f"{data_dir}, for its owner only")


def check_space(data_dir: Path) -> Finding:
    total, _, free = shutil.disk_usage(data_dir)
    text = f"{free / GIB:.1f} of {total / GIB:.1f} GiB are free"
    if free < SPACE_GONE_BYTES:
        return problem("Disk", text, "make room: soon nothing can be written, and then nothing is acknowledged")
    if free < max(SPACE_SCARCE_BYTES, SPACE_SCARCE_SHARE * total):
        return warning("Disk", text, "make room: hearth list models shows what may go")
    return ok("Disk", text)


def check_private_files(data_dir: Path) -> Finding:
    found = [path for name in (MASTER_KEY, ADMIN_KEY) if (path := data_dir / name).exists()]
    open_ones = [str(path) for path in found if path.stat().st_mode & OTHERS]
    if open_ones:
        return problem("Key files", f"open to others: {', '.join(open_ones)}", f"chmod 600 {' '.join(open_ones)}")
    return ok("Key files", ", ".join(path.name for path in found) or "none here")


def check_master_key(path: Path, data_dir: Path) -> tuple[Keyring | None, Finding]:
    is_new = not (data_dir / DATABASE).exists()
    if is_new and not path.exists():
        return None, ok("Master key", "the first start makes one")
    try:
        keyring = load_keyring(path, may_make=False)
    except HearthError as error:
        advice = "put it back from where you keep a copy; without it secrets stay sealed and no daemon starts"
        return None, problem("Master key", error.message, advice)
    return keyring, ok("Master key", f"{path}; see that a copy is kept elsewhere")


def check_database(path: Path) -> Finding:
    newest = len(read_migrations())
    try:
        schema = check_copy(path, newest)
    except HearthError as error:
        return problem("Database", error.message, "hearth restore FILE --data-dir NEW, from the last backup")
    if schema < newest:
        return ok("Database", f"sound; schema {schema}, which the next start upgrades to {newest}")
    return ok("Database", f"sound; schema {schema}")


def check_audit_log(database: Path, keyring: Keyring) -> Iterator[Finding]:
    verdict = verify_log(database, keyring.derive("audit/v1"))
    if verdict.problem:
        advice = "hearth audit verify tells more; find out who had access to the files"
        yield problem("Audit log", verdict.problem, advice)
        return
    yield ok("Audit log", f"{verdict.last.seq} rows, all sound; the last is {verdict.last.hash.hex()[:16]}…")
    yield check_clock(database, verdict, time.time())


def check_clock(database: Path, verdict: AuditVerdict, now: float) -> Finding:
    """What was written last cannot lie in the future."""
    newest = next(read_chain(database, verdict.last.seq - 1), None) if verdict.last.seq else None
    ahead_s = newest.entry.at - now if newest is not None and newest.entry is not None else 0.0
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if ahead_s > CLOCK_SKEW_S:
        return problem("Clock", f"{text}, {ahead_s:.0f} s before the audit log's newest row", "set the clock; use NTP")
    return ok("Clock", text)


def check_port(host: str, port: int) -> Finding:
    """Asked only while no daemon of ours holds it."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return ok("Port", f"{port} at {host} is free")
    except OSError as error:
        advice = "end the program that has it (ss -ltnp), or choose another: --port"
        return problem("Port", f"{port} at {host} cannot be had: {error.strerror or error}", advice)
