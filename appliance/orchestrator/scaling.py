"""How many replicas a deployment should have: from its policy, its load and what earlier looks remembered. Pure.

Time comes as `elapsed_s`, what has passed under observation since the last look, so that neither a jump of a clock
nor a daemon that stood still counts as time. A deployment at zero is woken by its requests, not here.
"""

import math
from collections.abc import Iterable

from appliance.domain import AutoscalingPolicy, LoadTarget
from appliance.orchestrator.fleet import Fact
from runtime.protocol import Heartbeat

ROUNDING = 1e-9
"""Of a replica: demand that exceeds a whole number by less is that number."""

_MEASURED = {
    LoadTarget.DEFAULT: "{:.2f} replicas' worth of work",
    LoadTarget.TOKENS_GENERATED_PER_SECOND: "{:.1f} tokens generated per second",
    LoadTarget.REQUESTS_PER_SECOND: "{:.2f} requests per second",
    LoadTarget.CONCURRENT_REQUESTS: "{:.1f} requests at once",
}


class Load(Fact, frozen=True):
    """What a deployment carries as a whole, averaged over the last seconds."""

    concurrent_requests: float = 0.0
    """Those that wait for a replica included."""
    requests_per_second: float = 0.0
    tokens_generated_per_second: float = 0.0
    replica_share: float = 0.0
    """How many replicas it would fill to the brim: `replica_share` below."""


class ScalingFacts(Fact, frozen=True):
    """One deployment as a look finds it."""

    policy: AutoscalingPolicy
    count: int
    """Replicas desired at present."""
    min_replica_count: int
    max_replica_count: int
    load: Load
    idle_s: float
    """Since its last request ended, infinite when there was none; 0 while it has one."""
    is_starting: bool = False
    """A replica of it is on its way: silence counts from when it could have been used."""
    scheduled_minimum: int = 0
    """Of the scaling schedules in force."""
    schedule_id: str = ""
    """Which of them asks for it."""


class Memory(Fact, frozen=True):
    """What must be known of earlier looks; hand back the one of the last verdict."""

    count: int = -1
    """It holds for this many desired replicas and no others."""
    above_s: float | None = None
    """For how long more replicas have been wanted; None when none are."""
    least_wanted: int = 0
    """The lowest demand of that time."""
    below_s: float | None = None
    most_wanted: int = 0
    quiet_s: float = 0.0
    """For how long there was no request."""


NOTHING_REMEMBERED = Memory()


class Verdict(Fact, frozen=True):
    count: int
    reason: str
    """In numbers; empty when the count stays."""
    memory: Memory


class _Demand(Fact, frozen=True):
    count: int
    """Whole replicas within the deployment's bounds."""
    reason: str


def decide(facts: ScalingFacts, memory: Memory, elapsed_s: float) -> Verdict:
    """In this order: its bounds at once, zero after silence, up or down after demand stayed there for a window.

    A step goes no further than demand went throughout the window. Any change of the count begins the windows anew;
    silence goes on over the steps that are decided here.
    """
    assert elapsed_s >= 0
    bounded = _keep_bounds(facts)
    if bounded is not None:
        return Verdict(bounded.count, bounded.reason, NOTHING_REMEMBERED)
    if facts.count == 0:
        return Verdict(0, "", NOTHING_REMEMBERED)
    demand = _demand(facts)
    memory = _remember(facts, demand.count, memory if memory.count == facts.count else NOTHING_REMEMBERED, elapsed_s)
    policy = facts.policy
    if _minimum(facts) == 0 and memory.quiet_s >= policy.scale_to_zero_window_s:
        return Verdict(0, f"no request for {policy.scale_to_zero_window_s:g} s", NOTHING_REMEMBERED)
    if memory.above_s is not None and memory.above_s >= policy.scale_up_window_s:
        reason = f"{demand.reason}, more than {facts.count} can carry for {policy.scale_up_window_s:g} s"
        return _step(memory.least_wanted, reason, memory)
    if memory.below_s is not None and memory.below_s >= policy.scale_down_window_s:
        reason = f"{demand.reason}, less than {facts.count} can carry for {policy.scale_down_window_s:g} s"
        return _step(memory.most_wanted, reason, memory)
    return Verdict(facts.count, "", memory)


def replica_share(heartbeats: Iterable[Heartbeat], concurrent_requests: float, max_num_requests: int) -> float:
    """How many replicas the work fills: by places in the batch or, where those are scarcer, by blocks of the KV cache.

    What waits inside a worker is taken to need as many blocks as what runs there.
    """
    by_places = concurrent_requests / max_num_requests
    return max(by_places, sum(_blocks_share(heartbeat) for heartbeat in heartbeats))


def _blocks_share(heartbeat: Heartbeat) -> float:
    if not heartbeat.num_blocks:
        return 0.0
    used = 1 - heartbeat.num_free_blocks / heartbeat.num_blocks
    return used * (1 + heartbeat.num_waiting / max(1, heartbeat.num_running))


def _step(count: int, reason: str, memory: Memory) -> Verdict:
    return Verdict(count, reason, Memory(count=count, quiet_s=memory.quiet_s))


def _minimum(facts: ScalingFacts) -> int:
    return min(max(facts.min_replica_count, facts.scheduled_minimum), facts.max_replica_count)


def _keep_bounds(facts: ScalingFacts) -> _Demand | None:
    """What must change whatever the load. One at zero stays there, whoever put it there, unless a schedule says no."""
    if facts.count > facts.max_replica_count:
        return _Demand(facts.max_replica_count, f"at most {facts.max_replica_count} replicas are allowed")
    if facts.count >= _minimum(facts) or (facts.count == 0 and facts.scheduled_minimum == 0):
        return None
    if facts.scheduled_minimum > facts.min_replica_count:
        reason = f"the schedule {facts.schedule_id} asks for at least {facts.scheduled_minimum} replicas"
    else:
        reason = f"at least {facts.min_replica_count} replicas are asked for"
    return _Demand(_minimum(facts), reason)


def _demand(facts: ScalingFacts) -> _Demand:
    """Of the load targets the largest demand; at least one replica, for silence alone leads to zero."""
    measured = {
        LoadTarget.DEFAULT: facts.load.replica_share,
        LoadTarget.TOKENS_GENERATED_PER_SECOND: facts.load.tokens_generated_per_second,
        LoadTarget.REQUESTS_PER_SECOND: facts.load.requests_per_second,
        LoadTarget.CONCURRENT_REQUESTS: facts.load.concurrent_requests,
    }
    targets = facts.policy.load_targets
    if not targets:
        return _Demand(max(1, _minimum(facts)), "no load target")
    largest = max(targets, key=lambda target: measured[target] / targets[target])
    wanted = math.ceil(measured[largest] / targets[largest] - ROUNDING)
    reason = f"{_MEASURED[largest].format(measured[largest])}, {targets[largest]:g} wanted per replica"
    return _Demand(min(max(wanted, _minimum(facts), 1), facts.max_replica_count), reason)


def _remember(facts: ScalingFacts, wanted: int, memory: Memory, elapsed_s: float) -> Memory:
    above_s = below_s = None
    least_wanted = most_wanted = wanted
    if wanted > facts.count:
        if memory.above_s is None:
            above_s = 0.0
        else:
            above_s, least_wanted = memory.above_s + elapsed_s, min(wanted, memory.least_wanted)
    elif wanted < facts.count:
        if memory.below_s is None:
            below_s = 0.0
        else:
            below_s, most_wanted = memory.below_s + elapsed_s, max(wanted, memory.most_wanted)
    # Of a count that somebody else has set since, nothing is remembered: what passed before is not silence under it.
    was_watched = memory.count == facts.count
    quiet_s = min(memory.quiet_s + elapsed_s, facts.idle_s) if was_watched and not facts.is_starting else 0.0
    return Memory(facts.count, above_s, least_wanted, below_s, most_wanted, quiet_s)
