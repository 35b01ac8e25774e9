"""Whether a replica that must leave its devices sleeps or is stopped: what host memory allows. Pure.

The last awake replica of a deployment sleeps, if it can and the host has room. When the host has none, those that were
used before it and sleep are stopped first, the least recently used ones; it stays where it is until their memory is
back. When that would not suffice, it is stopped itself.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import DeploymentFact, Fleet, ReplicaFact, Stop

MADE_ROOM = "host memory is needed for one that was used later"


class Sleeper(NamedTuple):
    deployment: DeploymentFact
    replica: ReplicaFact


class HostRoom:
    """A plan's working copy of host memory."""

    def __init__(self, fleet: Fleet) -> None:
        self._free_bytes = fleet.host_free_bytes
        self._returning_bytes = sum(
            replica.host_bytes
            for deployment in fleet.deployments
            for replica in deployment.replicas
            if replica.is_leaving and replica.state is ReplicaState.STOPPING
        )
        self._expected: list[ReplicaFact] = []
        """For whom room is being made."""
        self._sleepers = sorted(_sleepers(fleet.deployments), key=_coldest_first)

    def can_sleep(self, replica: ReplicaFact) -> bool:
        return replica.host_bytes > 0

    def take(self, replica: ReplicaFact) -> bool:
        """Whether there is room for it now; if so, it has it."""
        if replica.host_bytes > self._free_bytes:
            return False
        self._free_bytes -= replica.host_bytes
        return True

    def make_room(self, deployment: DeploymentFact, replica: ReplicaFact) -> list[Stop] | None:
        """Which sleepers to stop so that it can sleep later, none when enough is on its way; None: it cannot."""
        if any(replica is expected for expected in self._expected):
            return []
        missing = replica.host_bytes - self._free_bytes - self._returning_bytes
        chosen: list[Sleeper] = []
        for sleeper in self._sleepers:
            if missing <= 0:
                break
            if _coldest_first(sleeper) < (deployment.priority, deployment.last_used_at):
                chosen.append(sleeper)
                missing -= sleeper.replica.host_bytes
        if missing > 0:
            return None
        # What it will take is spoken for, and not free for the next one that asks.
        self._returning_bytes -= replica.host_bytes
        self._expected.append(replica)
        return self._stop(chosen)

    def repay(self) -> list[Stop]:
        """Those to stop because others need more host memory than is left."""
        missing = -self._free_bytes - self._returning_bytes
        chosen: list[Sleeper] = []
        while missing > 0 and len(chosen) < len(self._sleepers):
            chosen.append(self._sleepers[len(chosen)])
            missing -= chosen[-1].replica.host_bytes
        return self._stop(chosen)

    def note_stopped(self, replica: ReplicaFact) -> None:
        """In this plan, whoever needs room."""
        if replica.state is ReplicaState.ASLEEP:
            self._returning_bytes += replica.host_bytes
        self.forget(replica)

    def forget(self, replica: ReplicaFact) -> None:
        """It is to be woken: not to be stopped for others."""
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper.replica is not replica]

    def _stop(self, sleepers: Sequence[Sleeper]) -> list[Stop]:
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper not in sleepers]
        self._returning_bytes += sum(sleeper.replica.host_bytes for sleeper in sleepers)
        return [Stop(deployment.name, replica.index, None, MADE_ROOM) for deployment, replica in sleepers]


def _sleepers(deployments: Sequence[DeploymentFact]) -> Iterator[Sleeper]:
    for deployment in deployments:
        for replica in deployment.replicas:
            if replica.state is ReplicaState.ASLEEP and not replica.is_leaving:
                yield Sleeper(deployment, replica)


def _coldest_first(sleeper: Sleeper) -> tuple[int, float]:
    return (sleeper.deployment.priority, sleeper.deployment.last_used_at)
