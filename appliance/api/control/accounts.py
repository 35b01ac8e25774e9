"""Routes of accounts. A caller sees its own account; administrators of the box see all, and make and suspend them."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.api_keys import ApiKeyAnswer, render_api_key
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import (
    Answer,
    Empty,
    NotServed,
    ResourceId,
    Status,
    Wire,
    decode,
    parse_enum,
    render_time,
)
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Account, SuspendState
from appliance.errors import Code, HearthError
from appliance.services.accounts import AccountAsk


class AccountBody(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    email: str | None = None
    account_type: NotServed = None
    notification_settings: NotServed = None


class CreateAccountBody(Wire, frozen=True, kw_only=True):
    account_id: Annotated[
        ResourceId, msgspec.Meta(description="a-z, 0-9 and '-'; cannot change later.", examples=["acme"])
    ]
    account: AccountBody = AccountBody()


class SuspendAccountBody(Wire, frozen=True, kw_only=True):
    reason: Annotated[
        str | None,
        msgspec.Meta(
            description="What `suspendState` becomes. Default: BLOCKED_BY_ABUSE_RULE.", examples=["FAILED_PAYMENTS"]
        ),
    ] = None


class AccountAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    email: str
    state: str
    status: Status
    suspend_state: Annotated[str, msgspec.Meta(description="Unless UNSUSPENDED, the account may only read.")]
    create_time: str | None = None
    update_time: str | None = None


class CreatedAccountAnswer(AccountAnswer, frozen=True, kw_only=True):
    api_key: Annotated[ApiKeyAnswer, msgspec.Meta(description="Of its user `admin`; its `key` is shown this once.")]


async def create_account(request: web.Request) -> web.StreamResponse:
    """Create an account, with its first administrator.

    For administrators of the box. The answer holds the first API key of the account's user `admin`: nobody else can
    make keys for users of that account.
    """
    body = await decode(request, CreateAccountBody)
    created = await services(request).tenancy.accounts.create(
        principal(request), body.account_id, read_ask(body.account)
    )
    api_key = render_api_key(created.first_key.api_key, created.first_key.key)
    return json_response(
        CreatedAccountAnswer(**msgspec.structs.asdict(render_account(created.account)), api_key=api_key)
    )


async def list_accounts(request: web.Request) -> web.StreamResponse:
    """List the caller's account; for administrators of the box, all accounts."""
    found = await services(request).tenancy.accounts.list(principal(request))
    return list_response(request, "accounts", AccountAnswer, found, render_account)


async def get_account(request: web.Request) -> web.StreamResponse:
    """Get an account."""
    account = await services(request).tenancy.accounts.get(principal(request), request.match_info["account_id"])
    return masked_response(request, render_account(account))


async def update_account(request: web.Request) -> web.StreamResponse:
    """Change an account's display name or e-mail address."""
    ask = read_ask(masked_update(request, await decode(request, AccountBody)))
    account = await services(request).tenancy.accounts.update(principal(request), request.match_info["account_id"], ask)
    return json_response(render_account(account))


async def suspend_account(request: web.Request) -> web.StreamResponse:
    """Suspend an account: from now on it may only read.

    For administrators of the box. Requests under way are finished; its deployments and data stay.
    """
    body = await decode(request, SuspendAccountBody)
    reason = parse_enum(SuspendState, body.reason, "reason") or SuspendState.BLOCKED_BY_ABUSE_RULE
    if reason is SuspendState.UNSUSPENDED:
        raise HearthError(Code.INVALID, "reason: UNSUSPENDED is what `:unsuspend` is for", "reason")
    return await _suspend(request, reason)


async def unsuspend_account(request: web.Request) -> web.StreamResponse:
    """End the suspension of an account. For administrators of the box."""
    await decode(request, Empty)
    return await _suspend(request, SuspendState.UNSUSPENDED)


async def _suspend(request: web.Request, state: SuspendState) -> web.Response:
    account = await services(request).tenancy.accounts.suspend(
        principal(request), request.match_info["account_id"], state
    )
    return json_response(render_account(account))


def read_ask(body: AccountBody) -> AccountAsk:
    return AccountAsk(display_name=body.display_name, email=body.email)


def render_account(account: Account) -> AccountAnswer:
    return AccountAnswer(
        name=account.name,
        display_name=account.display_name,
        email=account.email,
        state="READY",
        status=Status(),
        suspend_state=account.suspend_state,
        create_time=render_time(account.created_at),
        update_time=render_time(account.updated_at),
    )


ACCOUNT = "/v1/accounts/{account_id}"

ROUTES = [
    Route(
        "POST", "/v1/accounts", create_account, Permission.ADMIN, body=CreateAccountBody, answer=CreatedAccountAnswer
    ),
    Route("GET", "/v1/accounts", list_accounts, Permission.READ, answer=AccountAnswer, plural="accounts"),
    Route("GET", ACCOUNT, get_account, Permission.READ, answer=AccountAnswer),
    Route("PATCH", ACCOUNT, update_account, Permission.ADMIN, body=AccountBody, answer=AccountAnswer),
    Route(
        "POST", f"{ACCOUNT}:suspend", suspend_account, Permission.ADMIN, body=SuspendAccountBody, answer=AccountAnswer
    ),
    Route("POST", f"{ACCOUNT}:unsuspend", unsuspend_account, Permission.ADMIN, body=Empty, answer=AccountAnswer),
]
