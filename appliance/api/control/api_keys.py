"""Routes of API keys. The key itself is in the answer to its creation and nowhere else.

Under `users/{user_id}`, and under the account itself as older clients ask: there, a new key is the caller's own.
"""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.wire import Answer, Empty, Timestamp, Wire, decode, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import ApiKey
from appliance.names import last_segment
from appliance.services.api_keys import ANY_USER, ApiKeyAsk


class ApiKeyBody(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    expire_time: Annotated[Timestamp | None, msgspec.Meta(description="Default: never.")] = None
    annotations: dict[str, str] | None = None


class CreateApiKeyBody(Wire, frozen=True, kw_only=True):
    api_key: ApiKeyBody = ApiKeyBody()


class DeleteApiKeyBody(Wire, frozen=True, kw_only=True):
    key_id: str


class ApiKeyAnswer(Answer, frozen=True, kw_only=True):
    key_id: str
    display_name: str
    key: Annotated[str | None, msgspec.Meta(description="The whole key; only in the answer to its creation.")] = None
    prefix: Annotated[str, msgspec.Meta(description="What the key begins with.")]
    user: Annotated[str, msgspec.Meta(description="Full name of whose it is.")]
    email: Annotated[str, msgspec.Meta(description="Of the user.")]
    secure: bool
    annotations: dict[str, str]
    create_time: str | None = None
    expire_time: str | None = None
    last_used: Annotated[str | None, msgspec.Meta(description="Up to half a minute late.")] = None


async def create_api_key(request: web.Request) -> web.StreamResponse:
    """Create an API key, one's own or, as an administrator, any user's."""
    body = (await decode(request, CreateApiKeyBody)).api_key
    created = await services(request).tenancy.api_keys.create(
        principal(request),
        request.match_info["account_id"],
        _user_id(request, otherwise=principal(request).user_id),
        ApiKeyAsk(
            display_name=body.display_name,
            expire_time=body.expire_time.timestamp() if body.expire_time else None,
            annotations=body.annotations,
        ),
    )
    return json_response(render_api_key(created.api_key, created.key))


async def list_api_keys(request: web.Request) -> web.StreamResponse:
    """List API keys, without the keys themselves. `-` stands for all users."""
    api_keys = await services(request).tenancy.api_keys.list(
        principal(request), request.match_info["account_id"], _user_id(request, otherwise=ANY_USER)
    )
    return list_response(request, "apiKeys", ApiKeyAnswer, api_keys, render_api_key, unique="keyId")


async def get_api_key(request: web.Request) -> web.StreamResponse:
    """Get what is known of an API key, without the key itself."""
    api_key = await services(request).tenancy.api_keys.get(
        principal(request),
        request.match_info["account_id"],
        _user_id(request, otherwise=ANY_USER),
        request.match_info["key_id"],
    )
    return masked_response(request, render_api_key(api_key))


async def delete_api_key(request: web.Request) -> web.StreamResponse:
    """Revoke an API key. It is refused from now on."""
    body = await decode(request, DeleteApiKeyBody)
    await services(request).tenancy.api_keys.delete(
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
        user=api_key.user,
        email=api_key.email,
        secure=True,
        annotations=api_key.annotations,
        create_time=render_time(api_key.created_at),
        expire_time=render_time(api_key.expires_at),
        last_used=render_time(api_key.last_used_at),
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
        Route("POST", path, create_api_key, Permission.OWN_KEYS, body=CreateApiKeyBody, answer=ApiKeyAnswer),
        Route("GET", path, list_api_keys, Permission.OWN_KEYS, answer=ApiKeyAnswer, plural="apiKeys"),
        Route("GET", f"{path}/{{key_id}}", get_api_key, Permission.OWN_KEYS, answer=ApiKeyAnswer),
        Route("POST", f"{path}:delete", delete_api_key, Permission.OWN_KEYS, body=DeleteApiKeyBody, answer=Empty),
    )
]
