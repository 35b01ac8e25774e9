"""Routes of quotas: of an account, of one of its users, of one of its keys. A quota that nobody set has no limit."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import INT64_MAX, Answer, Int64, UpdateQuery, Wire, decode, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.names import last_segment
from appliance.services.quota_metrics import MEANINGS
from appliance.services.quotas import Known, QuotaAsk
from appliance.services.spending import Subject

NO_LIMIT = INT64_MAX
"""The largest number that there is stands for no limit, in answers and in requests."""


class QuotaBody(Wire, frozen=True, kw_only=True):
    value: Annotated[
        Int64 | None,
        msgspec.Meta(description=f"At most this much; {NO_LIMIT} takes the limit away.", examples=["1000"]),
    ] = None
    max_value: Annotated[
        Int64 | None, msgspec.Meta(description="How far `value` may go; administrators of the box choose.")
    ] = None


class UpdateQuotaQuery(UpdateQuery, frozen=True, kw_only=True):
    allow_missing: Annotated[bool, msgspec.Meta(description="Makes no difference: every quota is there.")] = False


class QuotaAnswer(Answer, frozen=True, kw_only=True):
    name: str
    value: Annotated[str, msgspec.Meta(description=f"What may be used; {NO_LIMIT}: no limit.", examples=["1000"])]
    max_value: Annotated[str, msgspec.Meta(description="How far an account's administrators may raise it.")]
    usage: Annotated[
        float | None, msgspec.Meta(description="Absent of a rate without a limit, which nobody counts.")
    ] = None
    unit: Annotated[str, msgspec.Meta(examples=["requests"])]
    description: str
    update_time: str | None = None


async def list_quotas(request: web.Request) -> web.StreamResponse:
    """List everything that can be limited for an account, with what is used of it."""
    found = await services(request).accounting.quotas.list(principal(request), _subject(request))
    return list_response(request, "quotas", QuotaAnswer, found, render_quota)


async def get_quota(request: web.Request) -> web.StreamResponse:
    """Get a quota."""
    known = await services(request).accounting.quotas.get(principal(request), _subject(request), _quota_id(request))
    return masked_response(request, render_quota(known))


async def update_quota(request: web.Request) -> web.StreamResponse:
    """Set or lift a quota.

    Effective for the next request. Administrators of an account choose its `value` up to `maxValue`, those of the box
    choose both.
    """
    ask = read_ask(masked_update(request, await decode(request, QuotaBody)))
    quotas = services(request).accounting.quotas
    known = await quotas.update(principal(request), _subject(request), _quota_id(request), ask)
    return json_response(render_quota(known))


def read_ask(body: QuotaBody) -> QuotaAsk:
    return QuotaAsk(value=_limit(body.value), max_value=_limit(body.max_value))


def render_quota(known: Known) -> QuotaAnswer:
    quota = known.quota
    meaning = MEANINGS[quota.metric]
    return QuotaAnswer(
        name=quota.name,
        value=str(NO_LIMIT if quota.limit is None else quota.limit),
        max_value=str(NO_LIMIT if quota.max_value is None else quota.max_value),
        usage=known.usage,
        unit=meaning.unit,
        description=meaning.text,
        update_time=render_time(quota.updated_at),
    )


def _limit(amount: int | str | None) -> int | msgspec.UnsetType | None:
    if amount is None:
        return msgspec.UNSET
    return None if int(amount) == NO_LIMIT else int(amount)


def _subject(request: web.Request) -> Subject:
    account_id = request.match_info["account_id"]
    if "user_id" in request.match_info:
        user_id = last_segment(request.match_info["user_id"], account_id, "users", "user_id")
        return Subject(account_id, f"users/{user_id}")
    if "key_id" in request.match_info:
        key_id = last_segment(request.match_info["key_id"], account_id, "apiKeys", "key_id")
        return Subject(account_id, f"apiKeys/{key_id}")
    return Subject(account_id)


def _quota_id(request: web.Request) -> str:
    """Bare, or by its full name."""
    segment = request.match_info["quota_id"]
    return segment.removeprefix(f"{_subject(request)}/quotas/")


_ACCOUNT = "/v1/accounts/{account_id}"
_SUBJECTS = (_ACCOUNT, f"{_ACCOUNT}/users/{{user_id}}", f"{_ACCOUNT}/apiKeys/{{key_id}}")

ROUTES = [
    route
    for subject in _SUBJECTS
    for route in (
        Route("GET", f"{subject}/quotas", list_quotas, Permission.READ, answer=QuotaAnswer, plural="quotas"),
        Route("GET", f"{subject}/quotas/{{quota_id}}", get_quota, Permission.READ, answer=QuotaAnswer),
        Route(
            "PATCH",
            f"{subject}/quotas/{{quota_id}}",
            update_quota,
            Permission.ADMIN,
            QuotaBody,
            answer=QuotaAnswer,
            query=UpdateQuotaQuery,
        ),
    )
]
