"""Routes of the machine at work: devices, replicas, deployments, leases; and why a deployment does not serve.

Ours, not of the platform that we speak for; sizes are plain numbers of bytes. What belongs to other accounts is shown
to the admins of this machine only; to others it is room that is taken.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

from aiohttp import web

from appliance.api.control.deployments import named_deployment
from appliance.api.control.leases import LeaseAnswer, render_lease
from appliance.api.control.paging import masked_response
from appliance.api.control.wire import Answer, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Deployment, Principal, ReplicaState, Role
from appliance.errors import HearthError
from appliance.orchestrator.gpus import DeviceSample
from appliance.orchestrator.views import DeviceView, HostView, ReplicaView
from appliance.services.access import can_look_inside, can_see_account
from appliance.services.loads import LoadWindow
from appliance.services.replica_rest import rest_of
from runtime.protocol import Heartbeat

LOAD_SPAN_S = 10.0
OTHERS = "other accounts"


class HolderAnswer(Answer, frozen=True, kw_only=True):
    owner: str
    memory_bytes: int


class DeviceAnswer(Answer, frozen=True, kw_only=True):
    id: str
    accelerator_type: str
    memory_bytes: int
    free_bytes: int
    holders: list[HolderAnswer]
    utilization: float | None = None
    power_watts: float | None = None
    temperature_celsius: float | None = None


class ReplicaAnswer(Answer, frozen=True, kw_only=True):
    name: str
    base_model: str
    state: str
    device_ids: list[str]
    reserved_bytes: int
    used_bytes: int | None = None
    host_bytes: int = 0
    process_id: int | None = None
    num_in_flight: int
    idle_seconds: float | None = None
    until_time: str | None = None
    kept_by: str = ""
    message: str = ""


class DeploymentLoadAnswer(Answer, frozen=True, kw_only=True):
    name: str
    base_model: str
    state: str
    desired_replica_count: int
    ready_replica_count: int
    num_in_flight: int
    num_waiting: int
    load: float
    requests_per_second: float
    tokens_per_second: float
    prompt_cache_hit_rate: float | None = None
    message: str = ""


class FleetAnswer(Answer, frozen=True, kw_only=True):
    devices: list[DeviceAnswer]
    host: DeviceAnswer | None = None
    replicas: list[ReplicaAnswer]
    deployments: list[DeploymentLoadAnswer]
    leases: list[LeaseAnswer]


class CandidateAnswer(Answer, frozen=True, kw_only=True):
    owner: str
    device_ids: list[str]
    memory_bytes: int
    obstacle: str = ""


class ExplanationAnswer(Answer, frozen=True, kw_only=True):
    deployment: str
    state: str
    reason: str = ""
    needed_bytes: int | None = None
    accelerator_count: int = 1
    free_bytes: dict[str, int] = {}
    candidates: list[CandidateAnswer] = []


async def show_fleet(request: web.Request) -> web.StreamResponse:
    """What runs on this machine, on which device, with how much memory, and how hard it works."""
    supervisor, viewer = services(request).node.supervisor, _Viewer(request)
    views = supervisor.device_views()
    samples = await asyncio.gather(*(_sample(request, view.device.id) for view in views))
    seen = [(deployment, replicas) for deployment, replicas in supervisor.all_deployments() if viewer.sees(deployment)]
    host = supervisor.host_view()
    return masked_response(
        request,
        FleetAnswer(
            devices=[_device(view, sample, viewer) for view, sample in zip(views, samples, strict=True)],
            host=_host(host, viewer) if host.host_bytes and not supervisor.ledger.is_host_a_device else None,
            replicas=[
                _replica(deployment, view)
                for deployment, replicas in seen
                if viewer.looks_inside(deployment)
                for view in replicas
            ],
            deployments=[_load(request, deployment, replicas) for deployment, replicas in seen],
            leases=[render_lease(request, lease) for lease in services(request).node.leases.list(principal(request))],
        ),
    )


async def explain_deployment(request: web.Request) -> web.StreamResponse:
    """Why a deployment does not serve fully, in numbers, and what could make room for it."""
    account_id, deployment_id = named_deployment(request)
    deployment = await services(request).deployments.get(principal(request), account_id, deployment_id)
    explanation = services(request).node.supervisor.explanation(account_id, deployment_id)
    if explanation is None:
        unexplained = ExplanationAnswer(
            deployment=deployment.name, state=deployment.state, reason=deployment.status_message
        )
        return masked_response(request, unexplained)
    viewer = _Viewer(request)
    return masked_response(
        request,
        ExplanationAnswer(
            deployment=deployment.name,
            state=deployment.state,
            reason=explanation.reason,
            needed_bytes=explanation.needed_bytes,
            accelerator_count=explanation.accelerator_count,
            free_bytes=dict(explanation.free_bytes),
            candidates=[
                CandidateAnswer(
                    owner=candidate.owner,
                    device_ids=list(candidate.device_ids),
                    memory_bytes=candidate.num_bytes,
                    obstacle=candidate.obstacle,
                )
                for candidate in explanation.candidates
                if viewer.name_of(candidate.owner) != OTHERS
            ],
        ),
    )


class _Viewer:
    """What the one who asks may see."""

    def __init__(self, request: web.Request) -> None:
        self._principal: Principal = principal(request)
        self._settings = services(request).config.identity
        self._sees_all = self._principal.role is Role.ADMIN and self._principal.account_id == self._settings.account_id

    def sees(self, deployment: Deployment) -> bool:
        return self._sees_account(deployment.account_id)

    def looks_inside(self, deployment: Deployment) -> bool:
        """Whether its replicas are shown, too: the library's are used by everybody and looked after by few."""
        return self._sees_all or can_look_inside(self._principal, deployment.account_id, self._settings)

    def name_of(self, owner: str) -> str:
        """The owner of a reservation; one of an account that is out of sight is nobody in particular."""
        match owner.split("/"):
            case ["accounts", account_id, *_] if not self._sees_account(account_id):
                return OTHERS
        return owner

    def holders(self, by_owner: dict[str, int]) -> list[HolderAnswer]:
        held: Counter[str] = Counter()
        for owner, num_bytes in by_owner.items():
            held[self.name_of(owner)] += num_bytes
        return [HolderAnswer(owner=owner, memory_bytes=num_bytes) for owner, num_bytes in held.items()]

    def _sees_account(self, account_id: str) -> bool:
        return self._sees_all or can_see_account(self._principal, account_id, self._settings)


async def _sample(request: web.Request, device_id: str) -> DeviceSample:
    try:
        return await services(request).node.inventory.sample(device_id)
    except HearthError:
        return DeviceSample()  # its memory is still worth showing


def _device(view: DeviceView, sample: DeviceSample, viewer: _Viewer) -> DeviceAnswer:
    return DeviceAnswer(
        id=view.device.id,
        accelerator_type=view.device.accelerator_type,
        memory_bytes=view.device.memory_bytes,
        free_bytes=view.free_bytes,
        holders=viewer.holders(view.by_owner),
        utilization=sample.utilization,
        power_watts=sample.power_w,
        temperature_celsius=sample.temperature_c,
    )


def _host(view: HostView, viewer: _Viewer) -> DeviceAnswer:
    return DeviceAnswer(
        id="host memory",
        accelerator_type="CPU",
        memory_bytes=view.host_bytes,
        free_bytes=view.host_bytes - sum(view.by_owner.values()),
        holders=viewer.holders(view.by_owner),
    )


def _replica(deployment: Deployment, view: ReplicaView) -> ReplicaAnswer:
    now = time.time()
    idle_s = None if view.idle_since is None else max(0.0, now - view.idle_since)
    rest = rest_of(deployment, view.state, idle_s, now)
    return ReplicaAnswer(
        name=f"{deployment.name}/{view.index}",
        base_model=deployment.base_model,
        state=view.state,
        device_ids=list(view.device_ids),
        reserved_bytes=view.reserved_bytes,
        used_bytes=view.footprint_bytes,
        host_bytes=view.host_bytes,
        process_id=view.pid,
        num_in_flight=view.num_in_flight,
        idle_seconds=idle_s,
        until_time=render_time(rest.until),
        kept_by=rest.kept_by,
        message=view.reason,
    )


def _load(request: web.Request, deployment: Deployment, replicas: Iterable[ReplicaView]) -> DeploymentLoadAnswer:
    here = services(request)
    ready = [view for view in replicas if view.state is ReplicaState.READY]
    window = here.node.loads.window(deployment.name, LOAD_SPAN_S)
    places = here.config.fleet.max_num_requests * max(1, len(ready))
    return DeploymentLoadAnswer(
        name=deployment.name,
        base_model=deployment.base_model,
        state=deployment.state,
        desired_replica_count=deployment.desired_replica_count,
        ready_replica_count=len(ready),
        num_in_flight=sum(view.num_in_flight for view in ready),
        num_waiting=max(0, here.node.loads.num_in_flight(deployment.name) - _num_running(ready)),
        load=here.node.loads.num_in_flight(deployment.name) / places,
        requests_per_second=window.num_begun / window.span_s,
        tokens_per_second=window.num_generated_tokens / window.span_s,
        prompt_cache_hit_rate=_hit_rate(window, [view.heartbeat for view in ready if view.heartbeat is not None]),
        message=deployment.status_message,
    )


def _num_running(ready: Iterable[ReplicaView]) -> int:
    return sum(view.heartbeat.num_running for view in ready if view.heartbeat is not None)


def _hit_rate(window: LoadWindow, beats: Iterable[Heartbeat]) -> float | None:
    """Of the last seconds; while nothing was asked, since the replicas were loaded."""
    cached, asked = window.num_cached_tokens, window.num_prompt_tokens
    if not asked:
        cached = sum(beat.num_cached_tokens for beat in beats)
        asked = sum(beat.num_prompt_tokens for beat in beats)
    return cached / asked if asked else None


ROUTES = [
    Route("GET", "/v1/node/fleet", show_fleet, Permission.READ, answer=FleetAnswer),
    Route(
        "GET",
        "/v1/accounts/{account_id}/deployments/{deployment_id}:explain",
        explain_deployment,
        Permission.READ,
        answer=ExplanationAnswer,
    ),
]
