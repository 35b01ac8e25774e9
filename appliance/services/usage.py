"""What an account has used, by day and by whatever somebody wants to see it by. Reads only.

Administrators see all of their account; everybody else what was used with his own keys, and the account's devices.
Counted in quarters of an hour: a window is widened to whole ones.
"""

import builtins
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import NamedTuple

import msgspec

from appliance.config import IdentitySettings
from appliance.domain import AcceleratorUser, ApiKey, Principal, Role, TokenCounts, TokenUser
from appliance.errors import Code, HearthError
from appliance.names import parse_name
from appliance.services.access import keeps_box, not_found
from appliance.services.prices import Prices
from appliance.store import accelerator_usage, api_keys, models, token_usage, users
from appliance.store.database import Connection, Database

DAYS_MAX = 31
TOKENS = "TEXT_COMPLETION_INFERENCE_USAGE"
DEVICES = "DEPLOYMENT_USAGE"
ANNOTATIONS = "annotations."


class Place(StrEnum):
    """Wire values of `usageType`: where something was used."""

    SERVERLESS = "SERVERLESS"  # on deployments of others, the library's above all: tokens cost
    DEDICATED_DEPLOYMENT = "DEDICATED_DEPLOYMENT"  # on the account's own: the time of their devices costs


class Dimension(StrEnum):
    MODEL = "model_name"
    KEY = "api_key_id"
    DEPLOYMENT = "deployment_name"
    ACCELERATOR = "accelerator_type"
    USER = "user_id"  # ours
    TEAM = "annotations.team"
    PROJECT = "annotations.project"
    ENVIRONMENT = "annotations.environment"


UNGROUPED = (Dimension.MODEL, Dimension.KEY, Dimension.DEPLOYMENT, Dimension.ACCELERATOR)


class UsageAsk(NamedTuple):
    start: datetime
    end: datetime
    place: Place | None = None
    """None: both."""
    timezone: tzinfo = UTC
    group_by: Sequence[Dimension] = UNGROUPED
    is_by_day: bool = True
    """Else one sum of the whole window."""


class UsageRow(msgspec.Struct, kw_only=True):
    """One day of one group."""

    place: Place
    kind: str
    """TOKENS or DEVICES."""
    started_at: float
    ended_at: float
    group: dict[Dimension, str]
    counts: TokenCounts = TokenCounts()
    accelerator_seconds: float = 0.0
    cost: float = 0.0


class ExportedRow(NamedTuple):
    """A line of a table for spreadsheets."""

    row: UsageRow
    email: str
    """Of the user; empty where there is none, or none any more."""
    num_parameters: int
    """Of the model; 0 where that is not known any more."""


EXPORTED = (Dimension.USER, Dimension.MODEL, Dimension.ACCELERATOR)


class Usage:
    def __init__(
        self,
        database: Database,
        settings: IdentitySettings,
        prices: Prices,
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        """`flush` brings what was used until now into the store."""
        self._database = database
        self._settings = settings
        self._prices = prices
        self._flush = flush

    async def list(self, principal: Principal, account_id: str, ask: UsageAsk) -> builtins.list[UsageRow]:
        """The oldest day first."""
        if account_id != principal.account_id and not keeps_box(principal, self._settings):
            raise not_found(f"accounts/{account_id}")
        _check_window(ask)
        begun = token_usage.bucket_at(ask.start.timestamp())
        ask = ask._replace(start=datetime.fromtimestamp(begun, UTC))
        await self._flush()
        rows: list[UsageRow] = []
        async with self._database.reader() as db:
            keys = {key.id: key for key in await api_keys.list_in_account(db, account_id)}
            own_only = "" if principal.role is Role.ADMIN else principal.user_id
            for start, end in days(ask) if ask.is_by_day else [(ask.start.timestamp(), ask.end.timestamp())]:
                table = _Table(self._prices, ask.group_by, keys, start, end)
                await table.fill(db, account_id, own_only, ask.place)
                rows += table.rows()
        return rows

    async def export(
        self, principal: Principal, account_id: str, start: datetime, end: datetime
    ) -> builtins.list[ExportedRow]:
        """By day, user, model and type of device."""
        rows = await self.list(principal, account_id, UsageAsk(start, end, group_by=EXPORTED))
        async with self._database.reader() as db:
            emails = {user.id: user.email for user in await users.list_in_account(db, account_id)}
            sizes = {name: await _num_parameters(db, name) for name in {row.group[Dimension.MODEL] for row in rows}}
        return [
            ExportedRow(row, emails.get(row.group[Dimension.USER], ""), sizes[row.group[Dimension.MODEL]])
            for row in rows
        ]


class _Table:
    """The groups of one day."""

    def __init__(
        self, prices: Prices, group_by: Sequence[Dimension], keys: dict[str, ApiKey], start: float, end: float
    ) -> None:
        self._prices = prices
        self._group_by = group_by
        self._keys = keys
        self._start = start
        self._end = end
        self._rows: dict[tuple[str, ...], UsageRow] = {}

    async def fill(self, db: Connection, account_id: str, user_id: str, place: Place | None) -> None:
        """`user_id`: whose tokens; empty: everybody's."""
        for user, counts in await token_usage.sum_between(db, account_id, self._start, self._end):
            if (not user_id or user.user_id == user_id) and place in (None, place_of(user)):
                self._add_tokens(user, counts)
        if place is not Place.SERVERLESS:
            for owner, seconds in await accelerator_usage.sum_between(db, account_id, self._start, self._end):
                self._add_devices(owner, seconds)

    def rows(self) -> list[UsageRow]:
        return [row for _, row in sorted(self._rows.items())]

    def _add_tokens(self, user: TokenUser, counts: TokenCounts) -> None:
        key = self._keys.get(user.key_id)
        annotations = {} if key is None else key.annotations
        known = {
            Dimension.MODEL: user.model,
            Dimension.KEY: user.key_id,
            Dimension.DEPLOYMENT: user.deployment,
            Dimension.USER: user.user_id,
        }
        known |= {
            each: annotations.get(each.removeprefix(ANNOTATIONS), "") for each in Dimension if ANNOTATIONS in each
        }
        row = self._row(place_of(user), TOKENS, known)
        row.counts = row.counts.plus(counts)
        row.cost += self._prices.token_cost(user, counts)

    def _add_devices(self, user: AcceleratorUser, seconds: float) -> None:
        known = {
            Dimension.MODEL: user.base_model,
            Dimension.DEPLOYMENT: user.deployment,
            Dimension.ACCELERATOR: user.accelerator_type,
        }
        row = self._row(Place.DEDICATED_DEPLOYMENT, DEVICES, known)
        row.accelerator_seconds += seconds
        row.cost += self._prices.accelerator_cost(user.accelerator_type, seconds)

    def _row(self, place: Place, kind: str, known: dict[Dimension, str]) -> UsageRow:
        group = {dimension: known.get(dimension, "") for dimension in self._group_by}
        key = (place, kind, *group.values())
        if key not in self._rows:
            self._rows[key] = UsageRow(place=place, kind=kind, started_at=self._start, ended_at=self._end, group=group)
        return self._rows[key]


def place_of(user: TokenUser) -> Place:
    return Place.DEDICATED_DEPLOYMENT if user.is_dedicated else Place.SERVERLESS


def days(ask: UsageAsk) -> Iterator[tuple[float, float]]:
    """The window's parts that lie in one day each, in its time zone."""
    start = ask.start.astimezone(ask.timezone)
    while start < ask.end:
        # The wall's clock of the next midnight: a day may have 23 or 25 hours.
        midnight = datetime.combine(start.date() + timedelta(days=1), time(), ask.timezone)
        end = min(midnight, ask.end, key=datetime.timestamp)
        yield start.timestamp(), end.timestamp()
        start = midnight


async def _num_parameters(db: Connection, model_name: str) -> int:
    name = parse_name(model_name, "models", "model")
    model = await models.get(db, name.account_id, name.resource_id)
    return 0 if model is None or model.info is None else model.info.num_parameters


def _check_window(ask: UsageAsk) -> None:
    if ask.end <= ask.start:
        raise HearthError(Code.INVALID, "endTime: must be later than startTime", "endTime")
    if ask.end - ask.start > timedelta(days=DAYS_MAX, hours=1):
        raise HearthError(Code.INVALID, f"endTime: at most {DAYS_MAX} days after startTime", "endTime")
