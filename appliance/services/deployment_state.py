"""The state of a deployment: which one follows from what the supervisor sees, and which one from a change. Pure.

DELETING begins with `Deployments.delete` and ends early with `Deployments.undelete`, nowhere else.
"""

from appliance.domain import Deployment, DeploymentState
from appliance.orchestrator.group import ReplicaCounts

NEEDS_NEW_WORKERS = (
    "accelerator_type",
    "accelerator_count",
    "precision",
    "max_context_length",
    "draft_model",
    "draft_token_count",
    "ngram_speculation_length",
    "shape_preset",
    "kv_cache_fraction",
    "enable_addons",
)
"""What a worker is told when it loads, or what its memory is sized by; everything else is known to the daemon alone."""


def next_state(current: DeploymentState, observed: ReplicaCounts) -> DeploymentState:
    """The table of transitions that observation brings."""
    match current:
        case DeploymentState.DELETED:
            return DeploymentState.DELETED
        case DeploymentState.DELETING:
            return DeploymentState.DELETING if any(observed) else DeploymentState.DELETED
    if not observed.wanted:
        return DeploymentState.READY
    if observed.ready:
        return DeploymentState.UPDATING if observed.outdated else DeploymentState.READY
    if observed.failed >= observed.wanted:
        return DeploymentState.FAILED
    # Without a ready replica: who served wakes, recovers or goes on being updated; FAILED tries anew, like a new one.
    serving = (DeploymentState.READY, DeploymentState.UPDATING)
    return current if current in serving else DeploymentState.CREATING


def needs_new_workers(before: Deployment, after: Deployment) -> bool:
    """Whether replicas that serve `before` cannot serve `after`."""
    return any(getattr(before, name) != getattr(after, name) for name in NEEDS_NEW_WORKERS)


def state_after_change(changed: Deployment, is_new_revision: bool) -> DeploymentState:
    """Told at once, so that whoever waits for READY after his change does not see the READY before it."""
    is_rolling = is_new_revision and changed.state is DeploymentState.READY and changed.desired_replica_count > 0
    return DeploymentState.UPDATING if is_rolling else changed.state


def replica_count_after_change(deployment: Deployment) -> int:
    """What is desired, brought between the limits that are asked for."""
    return min(max(deployment.desired_replica_count, deployment.min_replica_count), deployment.max_replica_count)
