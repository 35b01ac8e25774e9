"""What is done to deployments as time goes by: scale them, delete what nobody uses, store times of last use, sweep.

What to do is decided by pure functions (`orchestrator/scaling.py`, `services/deployment_lifecycle.py`); here it is
carried out. One deployment's error never keeps the others from being looked at.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from appliance.config import FleetSettings
from appliance.domain import Deployment, ReplicaState, ScalingSchedule
from appliance.errors import HearthError
from appliance.names import parse_name
from appliance.orchestrator.scaling import NOTHING_REMEMBERED, Load, ScalingFacts, decide, replica_share
from appliance.orchestrator.schedules import ScheduledMinimum, scheduled_minimum
from appliance.services import audit
from appliance.services.clock_watch import ClockWatch
from appliance.services.deployment_lifecycle import SETTLED_S, due
from appliance.services.desired_replicas import desire
from appliance.services.loads import Loads
from appliance.services.retirement import forget_purged, retire
from appliance.services.targets import LEAVING
from appliance.services.ticks import Ticks
from appliance.store import deployments, footprints
from appliance.store.database import Database
from runtime.protocol import Heartbeat

logger = logging.getLogger(__name__)

LOAD_SPAN_S = 10.0
"""Load is averaged over so many seconds, or the scale-up window if that is shorter."""
STALL_TICKS = 5
"""A tick counts as so many intervals at most: what lies further back was not observed."""
SWEEP_INTERVAL_S = 60.0
FOOTPRINT_KEPT_S = 90 * 86400.0
"""Since a model was last loaded so."""

_ON_ITS_WAY = (ReplicaState.STARTING, ReplicaState.LOADING)


class SeenReplica(Protocol):
    """What must be known of a replica here."""

    @property
    def state(self) -> ReplicaState: ...

    @property
    def heartbeat(self) -> Heartbeat | None: ...


class Watched:
    """What ticks remember of one deployment."""

    def __init__(self) -> None:
        self.memory = NOTHING_REMEMBERED
        self.replica_share = 0.0
        """Averaged like the rest of the load; heartbeats only tell of moments."""
        self.scheduled = ScheduledMinimum(0, "", -math.inf)
        self.schedules: dict[str, ScalingSchedule] = {}
        """Those that `scheduled` is of."""


class Autoscaler:
    def __init__(
        self,
        settings: FleetSettings,
        database: Database,
        loads: Loads,
        *,
        list_replicas: Callable[[str, str], Sequence[SeenReplica]],
        notify: Callable[[], None],
        purge_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`list_replicas` and `notify` are the supervisor's; `purge_s`: how long what is deleted can be undeleted."""
        self._settings = settings
        self._database = database
        self._loads = loads
        self._list_replicas = list_replicas
        self._notify = notify
        self._purge_s = purge_s
        self._clock = clock
        self._watch = ClockWatch(clock, wall_clock)
        self._watched: dict[str, Watched] = {}
        self._ticked_at = clock()
        self._unmoved_s = 0.0
        """How far the clock jumped since stored times were last moved along."""
        self._rows: list[Deployment] = []
        self._rows_of_commit = -1

    def join(self, ticks: Ticks) -> None:
        """Before they start."""
        ticks.add(self.scale, self._settings.autoscale_interval_s)
        ticks.add(self.flush_used, self._settings.usage_flush_s)
        ticks.add(self.sweep, SWEEP_INTERVAL_S)

    async def close(self) -> None:
        """After the last tick: store the last times of use."""
        try:
            await self.flush_used()
        except HearthError as error:
            logger.error("the last times of use are not stored: %s", error.message)

    # ---- ticks

    async def scale(self) -> None:
        """Look at every deployment once."""
        now = self._clock()
        elapsed_s = min(max(0.0, now - self._ticked_at), STALL_TICKS * self._settings.autoscale_interval_s)
        self._ticked_at = now
        await self._follow_clock()
        for deployment in await self._list_deployments():
            try:
                if deployment.state not in LEAVING and not await self._end(deployment):
                    await self._scale(deployment, elapsed_s)
            except Exception:
                logger.exception("looking at the load of %s failed", deployment.name)

    async def flush_used(self) -> None:
        """Store times of last use, all in one transaction."""
        used = self._loads.take_used()
        if not used:
            return
        try:
            async with self._database.transaction() as tx:
                for deployment_name, at in used.items():
                    name = parse_name(deployment_name, "deployments", "deployment")
                    await deployments.use(tx, name.account_id, name.resource_id, at)
        except BaseException:
            self._loads.put_back_used(used)
            raise

    async def sweep(self) -> None:
        """Forget what has had its time, by a clock that can be believed: deleted deployments, old measurements."""
        await self._follow_clock()
        async with self._database.transaction() as tx:
            if self._watch.settled_s >= SETTLED_S:
                await forget_purged(tx)
                await footprints.delete_before(tx, tx.now - FOOTPRINT_KEPT_S)

    # ---- one deployment

    async def _end(self, deployment: Deployment) -> bool:
        """Delete it if its time has come; whether that is so."""
        name = deployment.name
        if self._loads.num_in_flight(name) or not due(
            self._as_used(deployment), self._watch.now, self._watch.settled_s
        ):
            return False
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, deployment.account_id, deployment.id)
            if current is None or self._loads.num_in_flight(name):
                return False
            reason = due(self._as_used(current), self._watch.now, self._watch.settled_s)
            if not reason:
                return False
            await retire(tx, current, reason, purge_s=self._purge_s, keep=self._settings.scaling_decisions_kept)
            await audit.record_own_act(tx, "DeleteDeployment", name, reason)
        logger.info("%s is deleted: %s", name, reason)
        self._notify()
        return True

    async def _scale(self, deployment: Deployment, elapsed_s: float) -> None:
        watched = self._watched.setdefault(deployment.name, Watched())
        facts = self._find_facts(deployment, watched, elapsed_s)
        verdict = decide(facts, watched.memory, elapsed_s)
        watched.memory = verdict.memory
        if verdict.count == deployment.desired_replica_count:
            return
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, deployment.account_id, deployment.id)
            if current is None or not self._still_holds(deployment, current, verdict.count):
                return
            await desire(tx, current, verdict.count, verdict.reason, self._settings.scaling_decisions_kept)
        logger.info("%s: %d -> %d replicas: %s", deployment.name, facts.count, verdict.count, verdict.reason)
        self._notify()

    def _find_facts(self, deployment: Deployment, watched: Watched, elapsed_s: float) -> ScalingFacts:
        policy = deployment.autoscaling
        now = self._watch.now
        if watched.schedules != policy.scaling_schedules or now >= watched.scheduled.until:
            watched.schedules = policy.scaling_schedules
            watched.scheduled = scheduled_minimum(policy.scaling_schedules, now)
        count = deployment.desired_replica_count
        replicas = self._list_replicas(deployment.account_id, deployment.id) if count else ()
        return ScalingFacts(
            policy=policy,
            count=count,
            min_replica_count=deployment.min_replica_count,
            max_replica_count=deployment.max_replica_count,
            load=self._measure(deployment, watched, replicas, elapsed_s) if count else Load(),
            idle_s=self._loads.idle_s(deployment.name),
            is_starting=any(replica.state in _ON_ITS_WAY for replica in replicas),
            scheduled_minimum=watched.scheduled.count,
            schedule_id=watched.scheduled.schedule_id,
        )

    def _measure(
        self, deployment: Deployment, watched: Watched, replicas: Sequence[SeenReplica], elapsed_s: float
    ) -> Load:
        span_s = min(LOAD_SPAN_S, max(1.0, deployment.autoscaling.scale_up_window_s))
        window = self._loads.window(deployment.name, span_s)
        beats = [replica.heartbeat for replica in replicas if replica.heartbeat is not None]
        share = replica_share(beats, window.concurrent_requests, self._settings.max_num_requests)
        watched.replica_share += (share - watched.replica_share) * -math.expm1(-elapsed_s / span_s)
        return Load(
            concurrent_requests=window.concurrent_requests,
            requests_per_second=window.num_begun / window.span_s,
            tokens_generated_per_second=window.num_generated_tokens / window.span_s,
            replica_share=watched.replica_share,
        )

    def _still_holds(self, seen: Deployment, current: Deployment, to_count: int) -> bool:
        """Whether what was decided on `seen` is right for the row as it is now; the next tick looks again anyway."""
        return (
            current.state not in LEAVING
            and current.desired_replica_count == seen.desired_replica_count
            and current.min_replica_count == seen.min_replica_count
            and current.max_replica_count == seen.max_replica_count
            and not (to_count == 0 and self._loads.num_in_flight(seen.name))
        )

    def _as_used(self, deployment: Deployment) -> Deployment:
        """With its last use as known here, which is stored a little later."""
        last_used_at = self._loads.last_used_at(deployment.name)
        if last_used_at is None or last_used_at <= (deployment.last_used_at or 0.0):
            return deployment
        return msgspec.structs.replace(deployment, last_used_at=last_used_at)

    async def _list_deployments(self) -> list[Deployment]:
        """Read again only when something was written."""
        num_commits = self._database.num_commits
        if num_commits != self._rows_of_commit:
            async with self._database.reader() as db:
                self._rows = await deployments.list_active(db)
            self._rows_of_commit = num_commits
            names = {deployment.name for deployment in self._rows}
            self._watched = {name: watched for name, watched in self._watched.items() if name in names}
            self._loads.forget_all_but(names)
        return self._rows

    # ---- the clock

    async def _follow_clock(self) -> None:
        """When the wall's clock jumped, what was written by it moves along: the jump is no time that passed."""
        jump_s = self._watch.look()
        if jump_s:
            logger.warning("the clock jumped by %.0f s", jump_s)
            self._loads.move_used(jump_s)
            for watched in self._watched.values():
                watched.scheduled = ScheduledMinimum(0, "", -math.inf)
        self._unmoved_s += jump_s
        if self._unmoved_s:
            async with self._database.transaction() as tx:
                await deployments.move_times(tx, self._unmoved_s)
            self._unmoved_s = 0.0
