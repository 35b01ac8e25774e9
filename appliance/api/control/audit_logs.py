"""Route of the audit log: who did what, or was refused, to which of an account's resources."""

from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.filters import parse_filter
from appliance.api.control.masks import parse_mask
from appliance.api.control.page_tokens import PAGE_TOKENS
from appliance.api.control.paging import asked_page_size, name_of_list
from appliance.api.control.wire import Answer, Status, Timestamp, Wire, decode_query, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import AuditEntry, Role
from appliance.errors import Code, HearthError
from appliance.names import ResourceName
from appliance.store.audit_logs import AuditSearch, LoggedEntry, Place

APPLIANCE = "hearth"
"""The principal of what the appliance does by itself."""
LOOKED_AT_MAX = 200_000
"""Rows that one page's filter is tried on."""


class AuditLogQuery(Wire, frozen=True, kw_only=True):
    start_time: Annotated[
        Timestamp | None,
        msgspec.Meta(description="Default: 30 days before endTime.", examples=["2026-01-02T03:04:05Z"]),
    ] = None
    end_time: Annotated[Timestamp | None, msgspec.Meta(description="Entries of before this moment. Default: now.")] = (
        None
    )
    email: Annotated[str, msgspec.Meta(description="Only what this user did, by e-mail address or user id.")] = ""


class AuditPayload(Wire, frozen=True, kw_only=True):
    fields: Annotated[list[str], msgspec.Meta(description="Of the resource that were given; never what they held.")]
    request_id: str
    count: Annotated[int, msgspec.Meta(description="How many such refusals this entry stands for; 1 of all else.")]


class AuditLogEntry(Answer, frozen=True, kw_only=True):
    id: Annotated[str, msgspec.Meta(description="The entry's number in the chain that `hearth audit verify` walks.")]
    timestamp: str
    principal: Annotated[
        str,
        msgspec.Meta(
            description="E-mail address or user id; `hearth` is the appliance; empty where a key was refused."
        ),
    ]
    method: Annotated[str, msgspec.Meta(examples=["CreateDeployment"])]
    resource: Annotated[str, msgspec.Meta(examples=["accounts/acme/deployments/blue"])]
    message: str
    status: Status
    payload: AuditPayload
    is_admin_action: Annotated[bool, msgspec.Meta(description="Done with an administrator's key.")]
    api_key_id: str
    client_ip: str
    user_agent: str


async def list_audit_logs(request: web.Request) -> web.StreamResponse:
    """List what was done in an account, and what was refused, the newest first.

    Every change of a resource has its entry, and so has handing out download URLs. Of refusals (wrong keys, missing
    permission, resources of other accounts, broken limits) one entry stands for all of the same kind within a minute.
    Inference requests are not here, except those that were refused: see the usage. `orderBy` takes `timestamp` and
    `timestamp desc`; `totalSize` counts before the filter.
    """
    here, asked = services(request).audit_logs, _asked(request)
    mask = parse_mask(request.query.get("readMask", ""), AuditLogEntry)
    page, next_page_token = await _take_page(request, asked)
    return json_response(
        {
            "auditLogs": [mask.apply(entry) for entry in page],
            "nextPageToken": next_page_token,
            "totalSize": await here.count(principal(request), asked),
        }
    )


def _asked(request: web.Request) -> AuditSearch:
    query = decode_query(request, AuditLogQuery)
    from_at, until_at = services(request).audit_logs.span(_seconds(query.start_time), _seconds(query.end_time))
    return AuditSearch(request.match_info["account_id"], from_at, until_at, query.email, _is_newest_first(request))


async def _take_page(request: web.Request, asked: AuditSearch) -> tuple[list[AuditLogEntry], str]:
    """The entries, and the next page's token. Rows are read for as long as the page is not full."""
    matches = parse_filter(request.query.get("filter", ""), AuditLogEntry)
    size, list_name, tokens = asked_page_size(request), name_of_list(request), request.app[PAGE_TOKENS]
    token = request.query.get("pageToken", "")
    place = Place(*tokens.read(token, list_name)) if token else None
    page: list[AuditLogEntry] = []
    num_looked_at = 0
    async with aclosing(services(request).audit_logs.search(principal(request), asked, place)) as found:
        async for logged in found:
            if len(page) == size or num_looked_at >= LOOKED_AT_MAX:
                assert place is not None
                _require_some(page)
                return page, tokens.issue(list_name, list(place))
            num_looked_at += 1
            place = Place(logged.entry.at, logged.seq)
            if matches(entry := render_entry(logged)):
                page.append(entry)
    return page, ""


def _require_some(page: list[AuditLogEntry]) -> None:
    """Clients take an empty page for the end of a list."""
    if not page:
        message = f"filter: none of {LOOKED_AT_MAX} entries matches; choose startTime and endTime closer to each other"
        raise HearthError(Code.INVALID, message, "filter")


def render_entry(logged: LoggedEntry) -> AuditLogEntry:
    entry = logged.entry
    return AuditLogEntry(
        id=str(logged.seq),
        timestamp=render_time(entry.at) or "",
        principal=_principal(logged),
        method=entry.method,
        resource=entry.resource,
        message=_message(entry),
        status=Status(code=entry.outcome),
        payload=AuditPayload(fields=entry.fields, request_id=entry.request_id, count=entry.count),
        is_admin_action=entry.role == Role.ADMIN,
        api_key_id=entry.key_id,
        client_ip=entry.client_address,
        user_agent=entry.user_agent,
    )


def _principal(logged: LoggedEntry) -> str:
    entry = logged.entry
    if not entry.user_id:
        return APPLIANCE if entry.outcome == "OK" else ""
    if entry.user_account_id != entry.account_id:
        return str(ResourceName(entry.user_account_id, "users", entry.user_id))
    return logged.email or entry.user_id


def _message(entry: AuditEntry) -> str:
    times = f"refused {entry.count:,} times" if entry.count > 1 else ""
    return ": ".join(part for part in (entry.method, entry.message, times) if part)


def _is_newest_first(request: web.Request) -> bool:
    match request.query.get("orderBy", "").split():
        case [] | ["timestamp", "desc"]:
            return True
        case ["timestamp"] | ["timestamp", "asc"]:
            return False
    raise HearthError(Code.INVALID, "orderBy: the audit log is ordered by timestamp, or by timestamp desc", "orderBy")


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


ROUTES = [
    Route(
        "GET",
        "/v1/accounts/{account_id}/auditLogs",
        list_audit_logs,
        Permission.ADMIN,
        answer=AuditLogEntry,
        plural="auditLogs",
        query=AuditLogQuery,
    ),
]
