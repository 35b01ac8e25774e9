"""Routes of secrets. A value goes in and is in no answer."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import Answer, Empty, Wire, decode, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Secret
from appliance.names import last_segment
from appliance.services.secrets import SecretAsk

KeyName = Annotated[
    str, msgspec.Meta(description="What programs know it by: 1 to 128 of A-Z, a-z, 0-9, '_', '.', '-'.")
]
Value = Annotated[str, msgspec.Meta(description="Never returned. At most 64 KiB.")]


class CreateSecretBody(Wire, frozen=True, kw_only=True):
    name: Annotated[
        str, msgspec.Meta(description="Full name, or the id alone.", examples=["accounts/acme/secrets/wandb"])
    ]
    key_name: KeyName
    value: Value | None = None


class SecretBody(Wire, frozen=True, kw_only=True):
    key_name: KeyName | None = None
    value: Value | None = None


class SecretAnswer(Answer, frozen=True, kw_only=True):
    name: str
    key_name: KeyName
    create_time: str | None = None
    update_time: str | None = None


async def create_secret(request: web.Request) -> web.StreamResponse:
    """Store a secret. For administrators."""
    body = await decode(request, CreateSecretBody)
    secret = await services(request).tenancy.secrets.create(
        principal(request),
        request.match_info["account_id"],
        body.name,
        SecretAsk(key_name=body.key_name, value=body.value),
    )
    return json_response(render_secret(secret))


async def list_secrets(request: web.Request) -> web.StreamResponse:
    """List the secrets of an account, without their values."""
    found = await services(request).tenancy.secrets.list(principal(request), request.match_info["account_id"])
    return list_response(request, "secrets", SecretAnswer, found, render_secret)


async def get_secret(request: web.Request) -> web.StreamResponse:
    """Get a secret, without its value."""
    secret = await services(request).tenancy.secrets.get(principal(request), *_name(request))
    return masked_response(request, render_secret(secret))


async def update_secret(request: web.Request) -> web.StreamResponse:
    """Change the value of a secret, or what programs know it by. For administrators."""
    body = masked_update(request, await decode(request, SecretBody))
    secret = await services(request).tenancy.secrets.update(
        principal(request), *_name(request), SecretAsk(key_name=body.key_name, value=body.value)
    )
    return json_response(render_secret(secret))


async def delete_secret(request: web.Request) -> web.StreamResponse:
    """Delete a secret. For administrators."""
    await services(request).tenancy.secrets.delete(principal(request), *_name(request))
    return json_response(Empty())


def render_secret(secret: Secret) -> SecretAnswer:
    return SecretAnswer(
        name=secret.name,
        key_name=secret.key_name,
        create_time=render_time(secret.created_at),
        update_time=render_time(secret.updated_at),
    )


def _name(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id = request.match_info["account_id"]
    return account_id, last_segment(request.match_info["secret_id"], account_id, "secrets", "secret_id")


COLLECTION = "/v1/accounts/{account_id}/secrets"
SECRET = "/v1/accounts/{account_id}/secrets/{secret_id}"

ROUTES = [
    Route("POST", COLLECTION, create_secret, Permission.ADMIN, body=CreateSecretBody, answer=SecretAnswer),
    Route("GET", COLLECTION, list_secrets, Permission.READ, answer=SecretAnswer, plural="secrets"),
    Route("GET", SECRET, get_secret, Permission.READ, answer=SecretAnswer),
    Route("PATCH", SECRET, update_secret, Permission.ADMIN, body=SecretBody, answer=SecretAnswer),
    Route("DELETE", SECRET, delete_secret, Permission.ADMIN, answer=Empty),
]
