"""What a look at the fleet sees, and what may be done about it: plain data between the supervisor and its decisions.

The supervisor makes a `Fleet` of what is; `planning.py` makes a `FleetPlan` of it; the supervisor carries that out.
Times are unix seconds; sizes are bytes on each device of whatever is sized.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import msgspec

from appliance.domain import ReplicaState
from appliance.orchestrator.gpus import Device


class Priority(IntEnum):
    """Who gets room first; only what stands lower, or equal and idle, makes room for a claim."""

    JOB = 0
    SERVERLESS = 1
    DEPLOYMENT = 2
    LEASE = 3


class Fact(msgspec.Struct, frozen=True):
    """A value; made positionally or by name."""


class Demand(Fact, frozen=True):
    """What one replica, lease or job asks for."""

    num_bytes: int
    """On each of its devices."""
    accelerator_type: str | None
    accelerator_count: int
    device_ids: tuple[str, ...] = ()
    """Only these devices, e.g. those that a lease was on before a restart; empty: any that suit."""
    takes_all_free: bool = False
    """`num_bytes` is the least it can live with; it takes what its devices have free, the same of each."""


class ReplicaFact(Fact, frozen=True):
    """One replica that holds a reservation, or has given up."""

    index: int
    revision: int
    state: ReplicaState
    device_ids: tuple[str, ...]
    reserved_bytes: int
    """On each device, what it holds. While ASLEEP: what waking takes, beyond what it could not give back."""
    host_bytes: int = 0
    """While ASLEEP: what it holds of the host's memory; else what it would hold. 0: it cannot sleep."""
    is_leaving: bool = False
    """Was asked to stop, or to sleep, and has not arrived there."""
    is_falling_asleep: bool = False
    """It was to sleep that a leaving one was asked."""
    has_given_up: bool = False
    is_displaced: bool = False
    """A device that it is on is held for another account by now."""
    num_in_flight: int = 0
    ready_at: float | None = None
    """When it last became READY."""
    idle_since: float | None = None
    """When its last request ended, or it became READY; None while it has one."""


class DeploymentFact(Fact, frozen=True):
    """One deployment: what is desired of it, what it has, who waits for it."""

    name: str
    desired: int
    min_replica_count: int
    revision: int
    priority: Priority
    is_pinned: bool
    may_evict: bool
    created_at: float
    last_used_at: float
    """By requests; before the first one, when it was created."""
    demands: tuple[Demand, ...]
    """Best first; a replica takes the first that has a place."""
    blocked_reason: str = ""
    """Why no replica can be started whatever is free: its model is not there, its devices are not of this box."""
    waiting_since: float | None = None
    """Since when somebody wants it and no replica of it is ready; None when nobody does."""
    num_waiting: int = 0
    """Requests that wait now."""
    load_s: float | None = None
    """What a load of it took of late."""
    is_leaving: bool = False
    """Is being deleted (`desired` is 0): none of it sleeps, and its requests have `replica_drain_s` to finish."""
    replicas: tuple[ReplicaFact, ...] = ()


class ClaimFact(Fact, frozen=True):
    """A tenant that is no replica: a lease or a job, waiting for memory or holding it."""

    owner: str
    """As in the ledger."""
    priority: Priority
    demand: Demand
    may_evict: bool
    waiting_since: float | None
    """None: it was granted."""
    device_ids: tuple[str, ...] = ()
    """Where it was granted."""
    is_leaving: bool = False
    """Was asked to give its memory back."""


class Fleet(Fact, frozen=True):
    """Everything a plan may depend on."""

    now: float
    devices: Sequence[Device]
    free_bytes: Mapping[str, int]
    """By device id: what nobody has reserved, foreign processes counted as holders."""
    host_free_bytes: int
    """What sleeping replicas may still take of the host's memory, those that are falling asleep counted as there;
    below zero: somebody else needs it, and sleeping ones are stopped."""
    deployments: Sequence[DeploymentFact]
    claims: Sequence[ClaimFact] = ()
    fixed_bytes: Mapping[str, Mapping[str, int]] = {}
    """By device, then owner: what nobody here can free (foreign processes, spare workers), for explanations."""


class Start(Fact, frozen=True):
    """Reserve, and start a worker of the present revision."""

    deployment: str
    index: int
    """The lowest that no replica of it has; while others are leaving it may be beyond what is desired."""
    device_ids: tuple[str, ...]
    num_bytes: int


class Wake(Fact, frozen=True):
    """Reserve again, and wake a sleeping replica."""

    deployment: str
    index: int


class Stop(Fact, frozen=True):
    """Take nothing new, finish what runs, end. `drain_s` None: however long that takes.

    Of a sleeping one: end it. Of one that has given up: forget it, so that its index may be started again.
    """

    deployment: str
    index: int
    drain_s: float | None
    reason: str


class Sleep(Fact, frozen=True):
    """Take nothing new, finish what runs, give the devices' memory back, keep the weights in host memory."""

    deployment: str
    index: int
    reason: str


class Evict(Fact, frozen=True):
    """Lower what is desired of a deployment, for somebody else needs the room; its Stop or Sleep is planned beside.

    One per deployment and plan; `reason` may be shown to the deployment's account.
    """

    deployment: str
    to_count: int
    reason: str


class Grant(Fact, frozen=True):
    """Reserve for a claim."""

    owner: str
    device_ids: tuple[str, ...]
    num_bytes: int


class Yield(Fact, frozen=True):
    """Ask a granted claim of lower priority for its memory."""

    owner: str
    reason: str


Action = Start | Wake | Stop | Sleep | Evict | Grant | Yield


class Candidate(Fact, frozen=True):
    """Something that could make room, for whoever reads an explanation."""

    owner: str
    """As in the ledger, a replica's label or a claim's owner."""
    device_ids: tuple[str, ...]
    num_bytes: int
    """On each of them."""
    obstacle: str
    """Why it does not make room now: `pinned`, `busy: 3 requests`, `resident for 12 of 60 s` …; empty: it will."""


class Explanation(Fact, frozen=True):
    """Why something waits, in numbers."""

    reason: str
    """One sentence for a status: `needs 31.2 GiB on one H100; free: …; putting X to sleep frees 16.1 GiB`. It names
    nothing of other accounts, and holds no times, so that it stays the same while nothing happens."""
    needed_bytes: int
    accelerator_count: int
    free_bytes: Mapping[str, int]
    """By suitable device."""
    candidates: Sequence[Candidate] = ()
    """All that could make room; listed only for the one that a plan is asked to explain."""
    """Of every account: for operators."""


class FleetPlan(Fact, frozen=True):
    actions: Sequence[Action]
    """In order: what gives memory back comes first, and takes effect later; what reserves fits what is free now."""
    waiting: Mapping[str, Explanation]
    """By deployment name or claim owner."""
