"""The configuration as it is now: what a reload may change is read from here each time it is needed.

Everything else is handed down as values at the start and stays; a reload only names what would need a restart.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from appliance.config import SECTIONS, Config

RELOADABLE_TABLES = frozenset({"limits", "images", "log"})
"""Whole tables."""
RELOADABLE_SETTINGS = frozenset(
    {
        "allowed_hosts",
        "public_url",
        "body_timeout_s",
        "upload_idle_timeout_s",
        "forecast_interval_s",
        "backup_recipients",
    }
)
"""Single ones, of tables of which the rest stays."""

T = TypeVar("T")


class Reload(NamedTuple):
    """What a new configuration changed, by setting."""

    taken: list[str]
    needs_restart: list[str]


class LiveConfig:
    def __init__(self, config: Config) -> None:
        self.current = config

    def take(self, fresh: Config) -> Reload:
        """Make the current one what of `fresh` may change while the daemon runs. Between two requests, never in one."""
        changed = _differences(self.current, fresh)
        taken = {name: table for name, table in changed.items() if _is_reloadable(name, table)}
        self.current = _with(self.current, fresh, taken)
        return Reload(sorted(taken), sorted(changed.keys() - taken.keys()))

    def derived(self, compute: Callable[[Config], T]) -> Callable[[], T]:
        """What `compute` makes of the current one, computed again only after a reload."""
        source = self.current
        result = compute(source)

        def read() -> T:
            nonlocal source, result
            if self.current is not source:
                source = self.current
                result = compute(source)
            return result

        return read


def _is_reloadable(name: str, table: str) -> bool:
    return table in RELOADABLE_TABLES or name in RELOADABLE_SETTINGS


def _differences(old: Config, new: Config) -> dict[str, str]:
    """The table of each setting that differs; an empty name for those in none."""
    tables = {"": (old, new)} | {table: (getattr(old, table), getattr(new, table)) for table in SECTIONS}
    return {
        name: table
        for table, (before, after) in tables.items()
        for name in before.__struct_fields__
        if name not in SECTIONS and getattr(before, name) != getattr(after, name)
    }


def _with(config: Config, fresh: Config, taken: dict[str, str]) -> Config:
    """`config` with these settings as `fresh` has them."""
    changes: dict[str, object] = {}
    for table in set(taken.values()):
        source = getattr(fresh, table) if table else fresh
        values = {name: getattr(source, name) for name, place in taken.items() if place == table}
        if table:
            changes[table] = msgspec.structs.replace(getattr(config, table), **values)
        else:
            changes |= values
    return msgspec.structs.replace(config, **changes)
