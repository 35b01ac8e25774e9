"""Routes of the machine itself: is it alive, is it ready, what does it count, what can it do, whose key is this."""

from importlib.metadata import version as distribution_version

from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.wire import Answer, Wire
from appliance.api.routing import Content, Permission, Route, principal, services
from appliance.errors import Code, HearthError
from appliance.services.access import can_look_inside, require_account
from appliance.services.metrics import CONTENT_TYPE

ACCOUNT_HEADER = "x-fireworks-account-id"


class KeyHolderAnswer(Answer, frozen=True, kw_only=True):
    account: str
    user: str
    role: str
    key_id: str
    version: str
    """Of the daemon."""


class HealthAnswer(Wire, frozen=True, kw_only=True):
    status: str


async def show_health(request: web.Request) -> web.StreamResponse:
    """The process is alive and its event loop turns."""
    return json_response(HealthAnswer(status="ok"))


async def show_readiness(request: web.Request) -> web.StreamResponse:
    """State can be written and replicas are looked after; models may be asleep."""
    node = services(request).node
    if node.database.is_failed:
        raise HearthError(Code.UNAVAILABLE, "not ready: the state store has failed")
    if not node.supervisor.is_running:
        raise HearthError(Code.UNAVAILABLE, "not ready: the supervisor is not running")
    return json_response(HealthAnswer(status="ready"))


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


async def verify_api_key(request: web.Request) -> web.StreamResponse:
    """Whose key this is; older clients read the header alone."""
    holder = principal(request)
    account = f"accounts/{holder.account_id}"
    answer = KeyHolderAnswer(
        account=account,
        user=f"{account}/users/{holder.user_id}",
        role=holder.role,
        key_id=holder.key_id,
        version=distribution_version("hearth"),
    )
    return json_response(answer, headers={ACCOUNT_HEADER: holder.account_id})


PROMETHEUS = Content("text/plain", "Metrics in the text format of Prometheus.", is_text=True)

ROUTES = [
    Route("GET", "/health", show_health, Permission.PUBLIC, answer=HealthAnswer),
    Route("GET", "/healthz", show_health, Permission.PUBLIC, answer=HealthAnswer),
    Route("GET", "/readyz", show_readiness, Permission.PUBLIC, answer=HealthAnswer),
    Route("GET", "/metrics", show_metrics, Permission.ADMIN, answer=PROMETHEUS),
    Route("GET", "/v1/accounts/{account_id}/metrics", show_account_metrics, Permission.READ, answer=PROMETHEUS),
    Route("GET", "/verifyApiKey", verify_api_key, Permission.READ, answer=KeyHolderAnswer),
]
