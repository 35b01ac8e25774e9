"""What a route is, and what handlers find on a request: the services and who asks.

A route declares the permission it needs; there is no default, so a route without one cannot be written down.
Decides no access itself (`auth.py`) and knows no particular route (`app.py`).
"""

import re
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import NamedTuple

import msgspec
from aiohttp import web

from appliance.config import Config
from appliance.domain import Principal
from appliance.orchestrator.gpus import Inventory
from appliance.orchestrator.supervisor import Supervisor
from appliance.services.account_metrics import AccountMetrics
from appliance.services.deployed_models import DeployedModels
from appliance.services.deployments import Deployments
from appliance.services.device_metrics import DeviceMetrics
from appliance.services.identity import Identity
from appliance.services.inference import Inference
from appliance.services.leases import Leases
from appliance.services.loads import Loads
from appliance.services.metrics import Metrics
from appliance.services.models import Models
from appliance.services.shape_matching import DeploymentShapes
from appliance.store.database import Database

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Permission(StrEnum):
    """What a caller must hold; `auth.py` says which roles hold what. Ownership of an object is for the services."""

    PUBLIC = "public"  # no key at all: holds nothing of any account
    SIGNED_URL = "signed-url"  # no key: the handler verifies the signature in the URL
    INFER = "infer"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Route(NamedTuple):
    """One row of the route table. `{name}` in `path` matches one segment, percent-encoded slashes included."""

    method: str
    path: str
    """In its canonical form; `path_aliases` adds the others."""
    handler: Handler
    permission: Permission
    body: type[msgspec.Struct] | None = None
    """What the handler decodes; shown in /openapi.json."""


class Node(NamedTuple):
    """The machine and what is measured of it: for health, metrics, leases and the fleet at work."""

    database: Database
    supervisor: Supervisor
    inventory: Inventory
    metrics: Metrics
    device_metrics: DeviceMetrics
    account_metrics: AccountMetrics
    loads: Loads
    leases: Leases


class Services(NamedTuple):
    """All that handlers may call; put together by the daemon's wiring."""

    config: Config
    identity: Identity
    models: Models
    deployments: Deployments
    deployed_models: DeployedModels
    deployment_shapes: DeploymentShapes
    inference: Inference
    node: Node


SERVICES = web.AppKey("services", Services)
PRINCIPAL = web.RequestKey("principal", Principal)
REQUEST_ID = web.RequestKey("request_id", str)
ROUTE = web.RequestKey("route", Route)
"""The row of the table that matched; absent when none did."""

_DATA_PLANE = "/inference/v1/"
_CONTROL_PLANE = "/v1/accounts"
_PARAMETER = re.compile(r"\{(\w+)\}")


def services(request: web.Request) -> Services:
    return request.app[SERVICES]


def principal(request: web.Request) -> Principal:
    """Who asks; a programming error on a route that takes no key."""
    return request[PRINCIPAL]


def request_id(request: web.Request) -> str:
    """Made by the server; the key to this request's lines in the log."""
    return request[REQUEST_ID]


def path_aliases(path: str) -> list[str]:
    """Every path a route answers on: clients are given base URLs that end in nothing, /inference or /inference/v1."""
    if path.startswith(_DATA_PLANE):
        rest = path.removeprefix(_DATA_PLANE)
        return [path, f"/v1/{rest}", f"/inference/v1/v1/{rest}"]
    if path.startswith(_CONTROL_PLANE):
        return [path, f"/inference{path}", f"/inference/v1{path}"]
    return [path]


def path_pattern(path: str) -> str:
    """Keep `:` out of parameters, so that `/deployments/{id}` never swallows `/deployments/x:scale`."""
    return _PARAMETER.sub(r"{\1:[^/:]+}", path)
