"""What becomes of a deployment's row when the supervisor reports what it sees of it."""

from msgspec.structs import replace

from appliance.domain import Deployment, DeploymentState
from appliance.orchestrator.group import ReplicaCounts
from appliance.services.deployment_state import next_state
from appliance.services.retirement import forget
from appliance.services.serving import bury, finish_deploying
from appliance.store import deployments
from appliance.store.database import Transaction


async def note_sighting(
    tx: Transaction, seen: Deployment, observed: ReplicaCounts, message: str, termination_message: str
) -> None:
    """`seen` is the row as it was when the supervisor looked. A sighting older than the last change is dropped:
    the supervisor will look again and say so."""
    current = await deployments.get(tx.connection, seen.account_id, seen.id)
    if current is None or not _is_up_to_date(current, seen, observed):
        return
    state = next_state(current.state, observed)
    # Its updated_at stays: that is when somebody changed what is asked of it.
    changed = replace(
        current,
        state=state,
        status_message=message,
        termination_message=_termination_message(current, state, termination_message),
    )
    await deployments.update(tx, changed)
    if state is DeploymentState.READY:
        await finish_deploying(tx, changed)
    elif state is DeploymentState.DELETED:
        await bury(tx, changed)
        if changed.purge_at == changed.deleted_at:  # it was deleted for good; the others have their time
            await forget(tx, changed)


def _is_up_to_date(current: Deployment, seen: Deployment, observed: ReplicaCounts) -> bool:
    return (current.desired_replica_count, current.revision) == (observed.wanted, seen.revision)


def _termination_message(current: Deployment, state: DeploymentState, last_words: str) -> str:
    """Kept until it serves again, also while it is tried anew."""
    match state:
        case DeploymentState.FAILED:
            return last_words or current.termination_message
        case DeploymentState.READY:
            return ""
        case _:
            return current.termination_message
