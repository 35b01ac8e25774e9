"""Routes of leases: device memory for programs outside Hearth. Ours, not of the platform that we speak for."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.durations import Duration, parse_duration
from appliance.api.control.wire import Answer, Empty, Wire, decode, is_neutral, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Lease
from appliance.services.leases import LeaseAsk

COMMAND_LENGTH_MAX = 200
DEFAULT_WAIT_S = 120.0


class LeaseBody(Wire, frozen=True, kw_only=True):
    memory_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    duration: Duration
    accelerator_type: str | None = None
    accelerator_count: Annotated[int, msgspec.Meta(ge=0, le=1024)] | None = None
    command: str | None = None
    wait_timeout: Duration | None = None
    """How long the memory may take to come free."""


class LeaseAnswer(Answer, frozen=True, kw_only=True):
    id: str
    device_ids: list[str]
    visible_devices: str
    """For CUDA_VISIBLE_DEVICES; empty where there is no GPU."""
    memory_bytes: int
    command: str
    create_time: str | None = None
    expire_time: str | None = None
    keepalive_seconds: float
    """Renew it at least this often, or it is taken back."""


async def create_lease(request: web.Request) -> web.StreamResponse:
    """Borrow device memory; answers when it is there."""
    body = await decode(request, LeaseBody)
    ask = LeaseAsk(
        num_bytes=body.memory_bytes,
        duration_s=parse_duration(body.duration, "duration"),
        accelerator_type=None if is_neutral(body.accelerator_type) else body.accelerator_type,
        accelerator_count=body.accelerator_count or 1,
        command=(body.command or "")[:COMMAND_LENGTH_MAX],
        wait_s=parse_duration(body.wait_timeout, "waitTimeout") if body.wait_timeout else DEFAULT_WAIT_S,
    )
    return json_response(render_lease(request, await services(request).node.leases.take(principal(request), ask)))


async def renew_lease(request: web.Request) -> web.StreamResponse:
    """Say that the holder of a lease is alive."""
    lease = services(request).node.leases.renew(principal(request), request.match_info["lease_id"])
    return json_response(render_lease(request, lease))


async def delete_lease(request: web.Request) -> web.StreamResponse:
    """Give a lease back."""
    await services(request).node.leases.end(principal(request), request.match_info["lease_id"])
    return json_response(Empty())


def render_lease(request: web.Request, lease: Lease) -> LeaseAnswer:
    devices = {view.device.id: view.device for view in services(request).node.supervisor.device_views()}
    gpus = [device_id for device_id in lease.device_ids if device_id in devices and devices[device_id].is_cuda]
    return LeaseAnswer(
        id=lease.id,
        device_ids=lease.device_ids,
        visible_devices=",".join(gpus),
        memory_bytes=lease.num_bytes,
        command=lease.command,
        create_time=render_time(lease.created_at),
        expire_time=render_time(lease.expires_at),
        keepalive_seconds=services(request).config.fleet.lease_keepalive_s,
    )


ROUTES = [
    Route("POST", "/v1/node/leases", create_lease, Permission.WRITE, LeaseBody, answer=LeaseAnswer),
    Route("POST", "/v1/node/leases/{lease_id}:renew", renew_lease, Permission.WRITE, answer=LeaseAnswer),
    Route("DELETE", "/v1/node/leases/{lease_id}", delete_lease, Permission.WRITE, answer=Empty),
]
