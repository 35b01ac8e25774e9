"""`hearth doctor` but for what only a client can ask: everything that can be looked at from outside the daemon."""

from collections.abc import Iterator

from appliance.config import Config
from appliance.operations.findings import Finding
from appliance.operations.machine_checks import check_machine
from appliance.operations.state_checks import check_state
from appliance.store.lock import find_lock_holder


def examine(config: Config) -> Iterator[Finding]:
    """One after the other, as they are found."""
    data_dir = config.data_dir.expanduser().absolute()
    yield from check_machine(config, find_lock_holder(data_dir))
    yield from check_state(config, data_dir)
