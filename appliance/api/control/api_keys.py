"""Routes of API keys. The key itself is in the answer to its creation and nowhere else.

Under `users/{user_id}`, and under the account itself as older clients ask: there, a new key is the caller's own.
"""

from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.paging import list_response
from appliance.api.control.wire import Answer, Empty, NotServed, Timestamp, Wire, decode, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import ApiKey
from appliance.names import last_segment
from appliance.services.identity import ANY_USER


class ApiKeyBody(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    expire_time: Timestamp | None = None
    annotations: NotServed = None


class CreateApiKeyBody(Wire, frozen=True, kw_only=True):
    api_key: ApiKeyBody = ApiKeyBody()


class DeleteApiKeyBody(Wire, frozen=True, kw_only=True):
    key_id: str


class ApiKeyAnswer(Answer, frozen=True, kw_only=True):
    key_id: str
    display_name: str
    key: str | None = None
    prefix: str
    secure: bool
    create_time: str | None = None
    expire_time: str | None = None


async def create_api_key(request: web.Request) -> web.StreamResponse:
    """Create an API key."""
    body = (await decode(request, CreateApiKeyBody)).api_key
    created = await services(request).identity.create_api_key(
        principal(request),
        request.match_info["account_id"],
        _user_id(request, otherwise=principal(request).user_id),
        display_name=body.display_name or "default",
        expires_at=body.expire_time.timestamp() if body.expire_time else None,
    )
    return json_response(render_api_key(created.api_key, created.key))


async def list_api_keys(request: web.Request) -> web.StreamResponse:
    """List API keys, without the keys themselves."""
    api_keys = await services(request).identity.list_api_keys(
        principal(request), request.match_info["account_id"], _user_id(request, otherwise=ANY_USER)
    )
    return list_response(request, "apiKeys", ApiKeyAnswer, api_keys, render_api_key, unique="keyId")


async def delete_api_key(request: web.Request) -> web.StreamResponse:
    """Revoke an API key."""
    body = await decode(request, DeleteApiKeyBody)
    await services(request).identity.delete_api_key(
        principal(request),
        request.match_info["account_id"],
        _user_id(request, otherwise=ANY_USER),
        body.key_id,
    )
    return json_response(Empty())


def render_api_key(api_key: ApiKey, key: str | None = None) -> ApiKeyAnswer:
    return ApiKeyAnswer(
        key_id=api_key.id,
        display_name=api_key.display_name,
        key=key,
        prefix=f"fw_{api_key.id}",
        secure=True,
        create_time=render_time(api_key.created_at),
        expire_time=render_time(api_key.expires_at),
    )


def _user_id(request: web.Request, otherwise: str) -> str:
    if "user_id" not in request.match_info:
        return otherwise
    return last_segment(request.match_info["user_id"], request.match_info["account_id"], "users", "user_id")


OF_A_USER = "/v1/accounts/{account_id}/users/{user_id}/apiKeys"
OF_THE_ACCOUNT = "/v1/accounts/{account_id}/apiKeys"

ROUTES = [
    route
    for path in (OF_A_USER, OF_THE_ACCOUNT)
    for route in (
        Route("POST", path, create_api_key, Permission.WRITE, CreateApiKeyBody),
        Route("GET", path, list_api_keys, Permission.READ),
        Route("POST", f"{path}:delete", delete_api_key, Permission.WRITE, DeleteApiKeyBody),
    )
]
