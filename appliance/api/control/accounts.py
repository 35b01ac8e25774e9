"""Routes of accounts, and of the users in them. A caller sees its own account and no other."""

from aiohttp import web

from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.wire import Answer, Status, render_time
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
    return list_response(request, "accounts", AccountAnswer, [own], render_account)


async def get_account(request: web.Request) -> web.StreamResponse:
    """Get an account."""
    account_id = request.match_info["account_id"]
    account = await services(request).identity.get_account(principal(request), account_id)
    return masked_response(request, render_account(account))


async def get_user(request: web.Request) -> web.StreamResponse:
    """Get a user."""
    account_id = request.match_info["account_id"]
    user_id = last_segment(request.match_info["user_id"], account_id, "users", "user_id")
    user = await services(request).identity.get_user(principal(request), account_id, user_id)
    return masked_response(request, render_user(user))


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
