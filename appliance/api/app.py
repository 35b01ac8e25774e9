"""The application: the route table and the middleware, each a list to be read from top to bottom.

A route is registered with its guard, and there is no other way to register one: what declares no permission cannot
be reached, and what matched is what is authorised.
"""

import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler as Next

from appliance.api.auth import FAILURES, FailureLimiter, authorise
from appliance.api.control import (
    accounts,
    api_keys,
    audit_logs,
    billing,
    billing_metrics,
    clusters,
    datasets,
    deployed_models,
    deployment_metrics,
    deployment_shapes,
    deployments,
    docs,
    fleet,
    identity_providers,
    leases,
    models,
    node,
    operations,
    quotas,
    reservations,
    transfers,
    usage,
    users,
)
from appliance.api.control import secrets as sealed_secrets
from appliance.api.control.page_tokens import PAGE_TOKENS, PageTokens
from appliance.api.data import (
    alignments,
    chat,
    completions,
    edge_detection,
    embeddings,
    guided_images,
    image_generation,
    image_workflows,
    messages,
    openai_images,
    realtime,
    rerank,
    transcriptions,
    translations,
    unserved_images,
)
from appliance.api.data import models as served_models
from appliance.api.data.image_files import EDITOR
from appliance.api.denials import note_denial
from appliance.api.errors import answer_errors
from appliance.api.openapi import DOCUMENT, Document
from appliance.api.routing import (
    REQUEST_ID,
    ROUTE,
    SERVICES,
    Handler,
    Permission,
    Route,
    Services,
    path_aliases,
    path_pattern,
    request_id,
    require_possible_ids,
    services,
)
from appliance.config import ServerSettings
from appliance.errors import Code, HearthError
from appliance.services.image_editing import ImageEditor

ROUTES: list[Route] = [
    *chat.ROUTES,
    *completions.ROUTES,
    *messages.ROUTES,
    *embeddings.ROUTES,
    *rerank.ROUTES,
    *transcriptions.ROUTES,
    *realtime.ROUTES,
    *translations.ROUTES,
    *alignments.ROUTES,
    *image_generation.ROUTES,
    *guided_images.ROUTES,
    *edge_detection.ROUTES,
    *image_workflows.ROUTES,
    *openai_images.ROUTES,
    *unserved_images.ROUTES,
    *served_models.ROUTES,
    *models.ROUTES,
    *transfers.ROUTES,
    *operations.ROUTES,
    *datasets.ROUTES,
    *deployments.ROUTES,
    *deployment_metrics.ROUTES,
    *deployed_models.ROUTES,
    *deployment_shapes.ROUTES,
    *reservations.ROUTES,
    *clusters.ROUTES,
    *fleet.ROUTES,
    *leases.ROUTES,
    *accounts.ROUTES,
    *users.ROUTES,
    *quotas.ROUTES,
    *usage.ROUTES,
    *billing.ROUTES,
    *billing_metrics.ROUTES,
    *api_keys.ROUTES,
    *sealed_secrets.ROUTES,
    *identity_providers.ROUTES,
    *node.ROUTES,
    *audit_logs.ROUTES,
    *docs.ROUTES,
]

CLIENT_LEFT = 499
"""No status that anybody sees: the metrics' word for a client that did not wait for its answer."""
ALLOWED_HOSTS: web.AppKey[Callable[[], frozenset[str]]] = web.AppKey("allowed_hosts")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def build_app(services: Services, routes: Iterable[Route] = ROUTES) -> web.Application:
    app = web.Application(
        middlewares=[
            identify_request,
            count_requests,
            answer_errors,
            refuse_foreign_hosts,
            refuse_compressed_bodies,
        ]
    )
    app[SERVICES] = services
    app[FAILURES] = FailureLimiter(services.config.identity.failed_auth_per_minute)
    app[ALLOWED_HOSTS] = services.live.derived(lambda config: _allowed_hosts(config.server))
    app[DOCUMENT] = Document(list(routes), services.config.server.public_url or "/")
    app[EDITOR] = ImageEditor(services.config.images)
    app[PAGE_TOKENS] = PageTokens(services.page_token_key)
    app.on_response_prepare.append(_sign_response)
    for route in routes:
        register(app, route)
    return app


def register(app: web.Application, route: Route) -> None:
    """Add a route under all its paths, behind its permission."""
    if not isinstance(route.permission, Permission):
        raise TypeError(f"{route.method} {route.path} declares no permission")
    for path in path_aliases(route.path):
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            app.router.add_route(method, path_pattern(path), _guarded(route))


def _guarded(route: Route) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        request[ROUTE] = route
        try:
            await authorise(request, route.permission)
            require_possible_ids(request)
            return await route.handler(request)
        except HearthError as error:
            note_denial(request, error)
            raise

    return guarded


@web.middleware
async def identify_request(request: web.Request, handler: Next) -> web.StreamResponse:
    request[REQUEST_ID] = secrets.token_hex(12)
    return await handler(request)


@web.middleware
async def count_requests(request: web.Request, handler: Next) -> web.StreamResponse:
    started = time.monotonic()
    status = CLIENT_LEFT
    try:
        response = await handler(request)
        status = response.status
    finally:
        path = request[ROUTE].path if ROUTE in request else "unknown"
        services(request).node.metrics.count_http(path, status, time.monotonic() - started)
    return response


@web.middleware
async def refuse_foreign_hosts(request: web.Request, handler: Next) -> web.StreamResponse:
    """A page of another site whose name was rebound to this address sends its own name in `Host`."""
    values = request.headers.getall("Host", [])
    if len(values) > 1 or (values and not _is_our_host(values[0], request.app[ALLOWED_HOSTS]())):
        raise HearthError(Code.FORBIDDEN, "the Host header names another server; see the setting allowed_hosts", "host")
    return await handler(request)


@web.middleware
async def refuse_compressed_bodies(request: web.Request, handler: Next) -> web.StreamResponse:
    """A megabyte can decompress to a gigabyte."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise HearthError(Code.INVALID, "send the request body uncompressed", "content-encoding")
    return await handler(request)


async def _sign_response(request: web.Request, response: web.StreamResponse) -> None:
    """Echo the client's own request id, which is used for nothing else."""
    client_id = request.headers.get("x-request-id", "")
    response.headers["x-request-id"] = client_id if _CLIENT_REQUEST_ID.fullmatch(client_id) else request_id(request)
    response.headers["Server"] = "hearth"


def _allowed_hosts(settings: ServerSettings) -> frozenset[str]:
    names = {"localhost", socket.gethostname(), settings.host, *settings.allowed_hosts}
    if settings.public_url is not None:
        names.add(urlsplit(settings.public_url).hostname or "")
    return frozenset(name.lower() for name in names)


def _is_our_host(value: str, allowed: frozenset[str]) -> bool:
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    name = match["name"].lower()
    return name in allowed or _is_address(name.strip("[]"))


def _is_address(name: str) -> bool:
    """An address was not looked up, so it cannot have been rebound."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
