"""Routes of clusters: there is one, this box, which every account sees and nobody makes or changes."""

from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.wire import Answer, Status
from appliance.api.routing import Permission, Route, principal, services
from appliance.names import last_segment
from appliance.services.access import not_found, require_account

COLLECTION_NAME = "clusters"
CLUSTER_ID = "local"


class ClusterAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    state: str
    status: Status
    region: str
    """Ours, as all below: what deployments say as their region."""
    accelerator_counts: dict[str, int]
    """How many devices there are of each type."""


class ConnectionInfo(Answer, frozen=True, kw_only=True):
    endpoint: str
    ca_data: str


async def list_clusters(request: web.Request) -> web.StreamResponse:
    """List the clusters: this box."""
    return list_response(request, "clusters", ClusterAnswer, [_find(request)], lambda cluster: cluster)


async def get_cluster(request: web.Request) -> web.StreamResponse:
    """Get a cluster: what devices this box has, and what its region is called."""
    return masked_response(request, _named(request))


async def get_cluster_connection_info(request: web.Request) -> web.StreamResponse:
    """Get the address that this box is asked at; it hands out no certificates."""
    _named(request)
    base_url = services(request).config.server.public_url or f"{request.scheme}://{request.host}"
    return json_response(ConnectionInfo(endpoint=base_url, ca_data=""))


def _named(request: web.Request) -> ClusterAnswer:
    cluster = _find(request)
    account_id, segment = request.match_info["account_id"], request.match_info["cluster_id"]
    cluster_id = last_segment(segment, account_id, COLLECTION_NAME, "cluster_id")
    if cluster_id != CLUSTER_ID:
        raise not_found(f"accounts/{account_id}/{COLLECTION_NAME}/{cluster_id}")
    return cluster


def _find(request: web.Request) -> ClusterAnswer:
    account_id, config = request.match_info["account_id"], services(request).config
    require_account(principal(request), account_id, config.identity)
    types = [device.accelerator_type for device in services(request).node.inventory.devices]
    return ClusterAnswer(
        name=f"accounts/{account_id}/{COLLECTION_NAME}/{CLUSTER_ID}",
        display_name="This box",
        state="READY",
        status=Status(),
        region=config.region,
        accelerator_counts={kind: types.count(kind) for kind in sorted(set(types))},
    )


CLUSTERS = f"/v1/accounts/{{account_id}}/{COLLECTION_NAME}"
CLUSTER = f"{CLUSTERS}/{{cluster_id}}"

ROUTES = [
    Route("GET", CLUSTERS, list_clusters, Permission.READ, answer=ClusterAnswer, plural="clusters"),
    Route("GET", CLUSTER, get_cluster, Permission.READ, answer=ClusterAnswer),
    Route("GET", f"{CLUSTER}:getConnectionInfo", get_cluster_connection_info, Permission.READ, answer=ConnectionInfo),
]
