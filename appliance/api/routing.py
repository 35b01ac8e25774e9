"""What a route is, and what handlers find on a request: the services and who asks.

A route declares the permission it needs; there is no default, so a route without one cannot be written down.
Decides no access itself (`auth.py`) and knows no particular route (`app.py`).
"""

import re
from collections.abc import Awaitable
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec
from aiohttp import web

from appliance.config import Config
from appliance.domain import Principal
from appliance.errors import Code, HearthError
from appliance.live_config import LiveConfig
from appliance.names import validate_id
from appliance.orchestrator.gpus import Inventory
from appliance.orchestrator.supervisor import Supervisor
from appliance.services.account_metrics import AccountMetrics
from appliance.services.accounting import Accounting
from appliance.services.accounts import Accounts
from appliance.services.api_keys import ApiKeys
from appliance.services.audit_logs import AuditLogs
from appliance.services.dataset_chunks import DatasetChunks
from appliance.services.dataset_uploads import DatasetUploads
from appliance.services.datasets import Datasets
from appliance.services.deployed_models import DeployedModels
from appliance.services.deployments import Deployments
from appliance.services.device_metrics import DeviceMetrics
from appliance.services.identity import Identity
from appliance.services.identity_providers import IdentityProviders
from appliance.services.imports import Imports
from appliance.services.inference import Inference
from appliance.services.leases import Leases
from appliance.services.loads import Loads
from appliance.services.metrics import Metrics
from appliance.services.model_files import ModelFiles
from appliance.services.models import Models
from appliance.services.own_shapes import OwnShapes
from appliance.services.preparations import Preparations
from appliance.services.reservations import Reservations
from appliance.services.secrets import Secrets
from appliance.services.shape_matching import DeploymentShapes
from appliance.services.transfers import Transfers
from appliance.services.users import Users
from appliance.store.database import Database


class Handler(Protocol):
    """`async def create_model(request)`."""

    @property
    def __name__(self) -> str: ...

    def __call__(self, request: web.Request, /) -> Awaitable[web.StreamResponse]: ...


class Permission(StrEnum):
    """What a caller must hold; `auth.py` says which roles hold what. Ownership of an object is for the services."""

    PUBLIC = "public"  # no key at all: holds nothing of any account
    SIGNED_URL = "signed-url"  # no key: the handler verifies the signature in the URL
    INFER = "infer"
    READ = "read"
    WRITE = "write"
    OWN_KEYS = "own keys"  # make, see and revoke keys: one's own; those of others are for the services to decide
    ADMIN = "admin"


class Content(NamedTuple):
    """What is not JSON: a body or an answer as it is described, which nothing decodes."""

    media_type: str
    description: str
    is_text: bool = False
    parts: tuple[str, ...] = ()
    """Of a form: the files that have to be there."""
    fields: type[msgspec.Struct] | None = None
    """Of a form: everything else; what is of bytes is a file that may be there."""


class Route(NamedTuple):
    """One row of the route table. `{name}` in `path` matches one segment, percent-encoded slashes included."""

    method: str
    path: str
    """In its canonical form; `path_aliases` adds the others."""
    handler: Handler
    permission: Permission
    body: type[msgspec.Struct] | Content | None = None
    """What the handler decodes. This and all below: shown in /openapi.json."""
    answer: type[msgspec.Struct] | Content | None = None
    """What a 200 holds; of a list, one of its members."""
    plural: str | None = None
    """Of a list: the member of its answer that holds the page."""
    query: type[msgspec.Struct] | None = None
    """What the handler decodes of the query; lists and gets have what is common to them besides."""
    event: type[msgspec.Struct] | None = None
    """What each event holds where the body's `stream` may ask for events."""
    other_answers: tuple[Content, ...] = ()
    """In the place of `answer` where the request's Accept header asks for them."""
    is_array: bool = False
    """Whether the answer is a JSON array of what `answer` says."""
    is_websocket: bool = False
    """Programs in browsers can give it no headers, so that it takes a key in its query, too."""

    @property
    def rpc_name(self) -> str:
        """CreateModel: what the audit log calls it, and the documents of the API."""
        return "".join(word.capitalize() for word in self.handler.__name__.split("_"))


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


class Tenancy(NamedTuple):
    """Accounts, who is in them, and what they hold to identify themselves."""

    accounts: Accounts
    users: Users
    api_keys: ApiKeys
    secrets: Secrets
    identity_providers: IdentityProviders


class DatasetServices(NamedTuple):
    """Datasets, how their files come in, and how one is cut into several."""

    rows: Datasets
    uploads: DatasetUploads
    chunks: DatasetChunks


class Services(NamedTuple):
    """All that handlers may call; put together by the daemon's wiring."""

    live: LiveConfig
    identity: Identity
    tenancy: Tenancy
    accounting: Accounting
    transfers: Transfers
    model_files: ModelFiles
    models: Models
    imports: Imports
    preparations: Preparations
    datasets: DatasetServices
    deployments: Deployments
    deployed_models: DeployedModels
    deployment_shapes: DeploymentShapes
    own_shapes: OwnShapes
    reservations: Reservations
    inference: Inference
    node: Node
    audit_logs: AuditLogs
    page_token_key: bytes

    @property
    def config(self) -> Config:
        """As it is now: a handler reads it once, and never keeps it."""
        return self.live.current


SERVICES = web.AppKey("services", Services)
PRINCIPAL = web.RequestKey("principal", Principal)
REQUEST_ID = web.RequestKey("request_id", str)
ROUTE = web.RequestKey("route", Route)
"""The row of the table that matched; absent when none did."""

ANY_ID = "-"
"""In the place of a parent's id: whichever."""

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


def require_possible_ids(request: web.Request) -> None:
    """Raise `not_found` for an id in the path that nothing can have; full names are for the handler."""
    for name, text in request.match_info.items():
        if name.endswith("_id") and name != "version_id" and text != ANY_ID and "/" not in text:
            try:
                validate_id(text, name)
            except HearthError as error:
                raise HearthError(Code.NOT_FOUND, error.message, name) from error


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
