"""Routes of the machine itself: is it alive, is it ready, what does it count, what can it do, whose key is this."""

from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.openapi import ROUTE_TABLE, describe
from appliance.api.routing import Permission, Route, principal, services
from appliance.errors import Code, HearthError
from appliance.services.access import can_look_inside, require_account
from appliance.services.metrics import CONTENT_TYPE

ACCOUNT_HEADER = "x-fireworks-account-id"


async def show_health(request: web.Request) -> web.StreamResponse:
    """The process is alive and its event loop turns."""
    return json_response({"status": "ok"})


async def show_readiness(request: web.Request) -> web.StreamResponse:
    """State can be written and replicas are looked after; models may be asleep."""
    node = services(request).node
    if node.database.is_failed:
        raise HearthError(Code.UNAVAILABLE, "not ready: the state store has failed")
    if not node.supervisor.is_running:
        raise HearthError(Code.UNAVAILABLE, "not ready: the supervisor is not running")
    return json_response({"status": "ready"})


async def show_metrics(request: web.Request) -> web.StreamResponse:
    """Prometheus text format. It names deployments of every account, so it is for the admins of this box."""
    if principal(request).account_id != services(request).config.identity.account_id:
        raise HearthError(Code.FORBIDDEN, "only admins of this machine's own account may read its metrics")
    node = services(request).node
    await node.device_metrics.refresh()
    return web.Response(body=node.metrics.render(), headers={"Content-Type": CONTENT_TYPE})


async def show_account_metrics(request: web.Request) -> web.StreamResponse:
    """Prometheus text format, of one account's deployments; new twice a minute."""
    account_id = request.match_info["account_id"]
    settings = services(request).config.identity
    require_account(principal(request), account_id, settings)
    if not can_look_inside(principal(request), account_id, settings):
        raise HearthError(Code.FORBIDDEN, f"the metrics of accounts/{account_id} are for those it belongs to")
    body = services(request).node.account_metrics.render(account_id)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def show_openapi(request: web.Request) -> web.StreamResponse:
    """This API as an OpenAPI document."""
    return json_response(describe(request.app[ROUTE_TABLE]))


async def verify_api_key(request: web.Request) -> web.StreamResponse:
    """Whose key this is; clients read the header."""
    account_id = principal(request).account_id
    return json_response({"account": f"accounts/{account_id}"}, headers={ACCOUNT_HEADER: account_id})


ROUTES = [
    Route("GET", "/health", show_health, Permission.PUBLIC),
    Route("GET", "/healthz", show_health, Permission.PUBLIC),
    Route("GET", "/readyz", show_readiness, Permission.PUBLIC),
    Route("GET", "/metrics", show_metrics, Permission.ADMIN),
    Route("GET", "/v1/accounts/{account_id}/metrics", show_account_metrics, Permission.READ),
    Route("GET", "/openapi.json", show_openapi, Permission.PUBLIC),
    Route("GET", "/verifyApiKey", verify_api_key, Permission.READ),
]
