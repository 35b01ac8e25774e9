"""Routes of users: the people of an account, and its service accounts."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
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
    decode_query,
    parse_enum,
    render_time,
)
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Role, User
from appliance.names import last_segment
from appliance.services.users import UserAsk

RoleName = Annotated[
    str, msgspec.Meta(description=f"One of {', '.join(Role)}; required for a new user.", examples=["user"])
]


class UserBody(Wire, frozen=True, kw_only=True):
    role: RoleName | None = None
    display_name: str | None = None
    email: Annotated[str | None, msgspec.Meta(description="No two users of an account have the same.")] = None
    service_account: Annotated[bool | None, msgspec.Meta(description="A program: it has API keys and no login.")] = None
    permission_preset: NotServed = None


class NewUser(Wire, frozen=True, kw_only=True):
    """Query of a creation."""

    user_id: Annotated[ResourceId | None, msgspec.Meta(description="Default: one made from the e-mail address.")] = None


class UserAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    email: str
    role: RoleName
    service_account: bool
    state: str
    status: Status
    create_time: str | None = None
    update_time: str | None = None


async def create_user(request: web.Request) -> web.StreamResponse:
    """Create a user, or with `serviceAccount` a service account. For administrators."""
    user = await services(request).tenancy.users.create(
        principal(request),
        request.match_info["account_id"],
        decode_query(request, NewUser).user_id,
        read_ask(await decode(request, UserBody)),
    )
    return json_response(render_user(user))


async def list_users(request: web.Request) -> web.StreamResponse:
    """List the users of an account."""
    found = await services(request).tenancy.users.list(principal(request), request.match_info["account_id"])
    return list_response(request, "users", UserAnswer, found, render_user)


async def get_user(request: web.Request) -> web.StreamResponse:
    """Get a user."""
    user = await services(request).tenancy.users.get(principal(request), *_name(request))
    return masked_response(request, render_user(user))


async def update_user(request: web.Request) -> web.StreamResponse:
    """Change a user's role, display name or e-mail address. For administrators.

    A role counts at once, for existing keys too. Nobody changes his own role, and the last administrator stays one.
    """
    ask = read_ask(masked_update(request, await decode(request, UserBody)))
    user = await services(request).tenancy.users.update(principal(request), *_name(request), ask)
    return json_response(render_user(user))


async def delete_user(request: web.Request) -> web.StreamResponse:
    """Delete a user and revoke all keys of it. What the user made stays. For administrators."""
    await services(request).tenancy.users.delete(principal(request), *_name(request))
    return json_response(Empty())


def read_ask(body: UserBody) -> UserAsk:
    return UserAsk(
        role=parse_enum(Role, body.role, "role"),
        display_name=body.display_name,
        email=body.email,
        service_account=body.service_account,
    )


def render_user(user: User) -> UserAnswer:
    return UserAnswer(
        name=user.name,
        display_name=user.display_name,
        email=user.email,
        role=user.role,
        service_account=user.is_service_account,
        state="READY",
        status=Status(),
        create_time=render_time(user.created_at),
        update_time=render_time(user.updated_at),
    )


def _name(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id = request.match_info["account_id"]
    return account_id, last_segment(request.match_info["user_id"], account_id, "users", "user_id")


COLLECTION = "/v1/accounts/{account_id}/users"
USER = "/v1/accounts/{account_id}/users/{user_id}"

ROUTES = [
    Route("POST", COLLECTION, create_user, Permission.ADMIN, body=UserBody, answer=UserAnswer, query=NewUser),
    Route("GET", COLLECTION, list_users, Permission.READ, answer=UserAnswer, plural="users"),
    Route("GET", USER, get_user, Permission.READ, answer=UserAnswer),
    Route("PATCH", USER, update_user, Permission.ADMIN, body=UserBody, answer=UserAnswer),
    Route("DELETE", USER, delete_user, Permission.ADMIN, answer=Empty),
]
