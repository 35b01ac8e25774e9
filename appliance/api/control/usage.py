"""Routes of usage: what an account used, by day and by whatever somebody wants to see it by."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.masks import parse_mask
from appliance.api.control.money import Money, to_money
from appliance.api.control.wire import Answer, Timestamp, Wire, decode_query, parse_enum, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.errors import Code, HearthError
from appliance.services.prices import Prices
from appliance.services.usage import DAYS_MAX, UNGROUPED, Dimension, Place, UsageAsk, UsageRow

TIMEZONE_LENGTH_MAX = 64

Start = Annotated[Timestamp, msgspec.Meta(examples=["2026-01-01T00:00:00Z"])]
End = Annotated[
    Timestamp, msgspec.Meta(description=f"At most {DAYS_MAX} days later.", examples=["2026-01-31T00:00:00Z"])
]
UsageType = Annotated[str | None, msgspec.Meta(description="SERVERLESS or DEDICATED_DEPLOYMENT; left out: both.")]
Count = Annotated[str, msgspec.Meta(examples=["1200"])]


class BillingWindow(Wire, frozen=True, kw_only=True):
    """Query of all that is about a time."""

    start_time: Start
    end_time: End


class UsageWindow(BillingWindow, frozen=True, kw_only=True):
    usage_type: UsageType = None


class UsageQuery(UsageWindow, frozen=True, kw_only=True):
    timezone: Annotated[str, msgspec.Meta(description="Whose days are meant.", examples=["UTC", "Europe/Berlin"])] = (
        "UTC"
    )
    group_by: Annotated[
        str,
        msgspec.Meta(
            description=f"Any of {', '.join(Dimension)}, with commas between; left out: {', '.join(UNGROUPED)}."
        ),
    ] = ""


class DailyUsage(Answer, frozen=True, kw_only=True):
    """What one group used on one day."""

    start_time: str | None = None
    end_time: str | None = None
    usage_type: str
    request_count: Count
    prompt_tokens: Count
    cached_prompt_tokens: Annotated[str, msgspec.Meta(description="Of the prompt tokens.")]
    completion_tokens: Count
    audio_input_seconds: Annotated[float, msgspec.Meta(description="Of sound that was listened to.")] = 0.0
    image_count: Annotated[str, msgspec.Meta(description="Pictures that were made.", examples=["3"])] = "0"
    cost: Annotated[Money | None, msgspec.Meta(description="Where the box has a price table.")] = None
    group: Annotated[dict[str, str], msgspec.Meta(examples=[{"api_key_id": "abc"}])]


class ServerlessUsage(DailyUsage, frozen=True, kw_only=True):
    """Tokens, sound and pictures on deployments that other accounts use as well."""

    model_name: str
    api_key_id: str


class DedicatedUsage(DailyUsage, frozen=True, kw_only=True):
    """Of the account's own deployments: the time of their devices, and what they did in it."""

    deployment_id: str
    base_model: str
    accelerator_type: str
    accelerator_seconds: Annotated[str, msgspec.Meta(examples=["3600"])]


class AccountUsage(Answer, frozen=True, kw_only=True):
    serverless_costs: list[ServerlessUsage]
    dedicated_costs: list[DedicatedUsage]


class UsageFilterOptions(Answer, frozen=True, kw_only=True):
    """What there is to see in a window."""

    model_names: list[str]
    api_key_ids: list[str]
    deployment_names: list[str]
    accelerator_types: list[str]


async def get_billing_usage(request: web.Request) -> web.StreamResponse:
    """See what an account used, by day and group.

    Administrators see all of it; others what was used with their own keys, and the account's devices.
    """
    query = decode_query(request, UsageQuery)
    group_by = _dimensions(request.query.getall("groupBy", []))
    ask = UsageAsk(
        query.start_time,
        query.end_time,
        parse_enum(Place, query.usage_type, "usageType"),
        _zone(query.timezone),
        group_by or UNGROUPED,
    )
    rows = await _rows(request, ask)
    prices = services(request).accounting.prices
    answer = AccountUsage(
        serverless_costs=[_serverless(row, prices) for row in rows if row.place is Place.SERVERLESS],
        dedicated_costs=[_dedicated(row, prices) for row in rows if row.place is Place.DEDICATED_DEPLOYMENT],
    )
    return json_response(parse_mask(request.query.get("readMask", ""), AccountUsage).apply(answer))


async def get_account_usage_filter_options(request: web.Request) -> web.StreamResponse:
    """See by what the usage of a window can be told apart."""
    query = decode_query(request, UsageWindow)
    place = parse_enum(Place, query.usage_type, "usageType")
    rows = await _rows(request, UsageAsk(query.start_time, query.end_time, place, is_by_day=False))

    def values(dimension: Dimension) -> list[str]:
        return sorted({row.group[dimension] for row in rows} - {""})

    return json_response(
        UsageFilterOptions(
            model_names=values(Dimension.MODEL),
            api_key_ids=values(Dimension.KEY),
            deployment_names=values(Dimension.DEPLOYMENT),
            accelerator_types=values(Dimension.ACCELERATOR),
        )
    )


async def _rows(request: web.Request, ask: UsageAsk) -> list[UsageRow]:
    return await services(request).accounting.usage.list(principal(request), request.match_info["account_id"], ask)


def _serverless(row: UsageRow, prices: Prices) -> ServerlessUsage:
    return ServerlessUsage(
        **_shared(row, prices),
        model_name=row.group.get(Dimension.MODEL, ""),
        api_key_id=row.group.get(Dimension.KEY, ""),
    )


def _dedicated(row: UsageRow, prices: Prices) -> DedicatedUsage:
    return DedicatedUsage(
        **_shared(row, prices),
        deployment_id=row.group.get(Dimension.DEPLOYMENT, "").rpartition("/")[2],
        base_model=row.group.get(Dimension.MODEL, ""),
        accelerator_type=row.group.get(Dimension.ACCELERATOR, ""),
        accelerator_seconds=str(round(row.accelerator_seconds)),
    )


def _shared(row: UsageRow, prices: Prices) -> dict[str, Any]:
    return {
        "start_time": render_time(row.started_at),
        "end_time": render_time(row.ended_at),
        "usage_type": row.kind,
        "request_count": str(row.counts.num_requests),
        "prompt_tokens": str(row.counts.num_prompt_tokens),
        "cached_prompt_tokens": str(row.counts.num_cached_tokens),
        "completion_tokens": str(row.counts.num_completion_tokens),
        "audio_input_seconds": row.counts.audio_ms / 1000,
        "image_count": str(row.counts.num_images),
        "cost": to_money(row.cost, prices),
        "group": {dimension.value: value for dimension, value in row.group.items()},
    }


def _dimensions(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """In the order asked for, each once."""
    names = [name for text in texts for part in text.split(",") if (name := part.strip())]
    unknown = [name for name in names if name not in list(Dimension)]
    if unknown:
        message = f"groupBy: {unknown[0][:64]!r} is none of {', '.join(Dimension)}"
        raise HearthError(Code.INVALID, message, "groupBy")
    return tuple(Dimension(name) for name in dict.fromkeys(names))


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name[:TIMEZONE_LENGTH_MAX])
    except (ValueError, OSError, LookupError) as error:
        message = f"timezone: {name[:TIMEZONE_LENGTH_MAX]!r} is no time zone such as Europe/Berlin"
        raise HearthError(Code.INVALID, message, "timezone") from error


_ACCOUNT = "/v1/accounts/{account_id}"

ROUTES = [
    Route("GET", f"{_ACCOUNT}/billingUsage", get_billing_usage, Permission.READ, answer=AccountUsage, query=UsageQuery),
    Route(
        "GET",
        f"{_ACCOUNT}/accountUsageFilterOptions",
        get_account_usage_filter_options,
        Permission.READ,
        answer=UsageFilterOptions,
        query=UsageWindow,
    ),
]
