"""Routes of accounts, and of the users in them. A caller sees its own account and no other."""

from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.paging import refuse_query, take_page
from appliance.api.control.wire import Answer, Status, Wire, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Account, User
from appliance.names import last_segment


class AccountAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    email: str
    state: str
    status: Status
    suspend_state: str
    create_time: str | None = None
    update_time: str | None = None


class AccountList(Wire, frozen=True, kw_only=True):
    accounts: list[AccountAnswer]
    next_page_token: str
    total_size: int


class UserAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    email: str
    role: str
    service_account: bool
    state: str
    status: Status
    create_time: str | None = None
    update_time: str | None = None


async def list_accounts(request: web.Request) -> web.StreamResponse:
    """List the caller's account."""
    own = await services(request).identity.get_account(principal(request), principal(request).account_id)
    page = take_page(request, [own], sort_key=lambda account: account.id)
    return json_response(
        AccountList(
            accounts=[render_account(account) for account in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )
    )


async def get_account(request: web.Request) -> web.StreamResponse:
    """Get an account."""
    refuse_query(request, "readMask")
    account_id = request.match_info["account_id"]
    return json_response(render_account(await services(request).identity.get_account(principal(request), account_id)))


async def get_user(request: web.Request) -> web.StreamResponse:
    """Get a user."""
    refuse_query(request, "readMask")
    account_id = request.match_info["account_id"]
    user_id = last_segment(request.match_info["user_id"], account_id, "users", "user_id")
    user = await services(request).identity.get_user(principal(request), account_id, user_id)
    return json_response(render_user(user))


def render_account(account: Account) -> AccountAnswer:
    return AccountAnswer(
        name=f"accounts/{account.id}",
        display_name=account.display_name,
        email=account.email,
        state="READY",
        status=Status(),
        suspend_state="UNSUSPENDED",
        create_time=render_time(account.created_at),
        update_time=render_time(account.updated_at),
    )


def render_user(user: User) -> UserAnswer:
    return UserAnswer(
        name=f"accounts/{user.account_id}/users/{user.id}",
        display_name=user.display_name,
        email=user.email,
        role=user.role,
        service_account=user.is_service_account,
        state="READY",
        status=Status(),
        create_time=render_time(user.created_at),
        update_time=render_time(user.updated_at),
    )


ROUTES = [
    Route("GET", "/v1/accounts", list_accounts, Permission.READ),
    Route("GET", "/v1/accounts/{account_id}", get_account, Permission.READ),
    Route("GET", "/v1/accounts/{account_id}/users/{user_id}", get_user, Permission.READ),
]
