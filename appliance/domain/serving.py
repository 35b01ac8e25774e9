"""What is served and how: deployments, their shapes, what is deployed on them."""

from enum import StrEnum

import msgspec

from appliance.domain.nouns import Noun
from appliance.names import ResourceName


class DeploymentState(StrEnum):
    CREATING = "CREATING"  # no replica has served yet
    READY = "READY"  # serves, or holds zero replicas on request
    UPDATING = "UPDATING"  # serves, while replicas of an older revision are replaced one by one
    FAILED = "FAILED"  # the last replica gave up; `status_message` says why
    DELETING = "DELETING"  # replicas are being stopped
    DELETED = "DELETED"  # soft-deleted, invisible unless asked for


class DeployedModelState(StrEnum):
    DEPLOYING = "DEPLOYING"
    DEPLOYED = "DEPLOYED"
    UNDEPLOYING = "UNDEPLOYING"
    DELETED = "DELETED"  # with its deployment: invisible, and back when that is undeleted


class ShapePreset(StrEnum):
    """Wire values of `DeploymentShape.presetType` that this version knows."""

    MINIMAL = "MINIMAL"  # the smallest memory that serves one request of full length
    FAST = "FAST"  # KV cache for `kv_cache_concurrency` requests of full length
    THROUGHPUT = "THROUGHPUT"  # all free memory of its devices


class Precision(StrEnum):
    """Wire values of `Deployment.precision` that this version can serve."""

    BF16 = "BF16"
    FP16 = "FP16"
    FP32 = "FP32"  # ours: for exact comparison on CPU
    FP8 = "FP8"  # of a checkpoint that is stored so, or was prepared


class LoadTarget(StrEnum):
    """Wire keys of `AutoscalingPolicy.loadTargets`: what one replica should carry."""

    DEFAULT = "default"  # share of what a replica can take, 0 to 1
    TOKENS_GENERATED_PER_SECOND = "tokens_generated_per_second"
    REQUESTS_PER_SECOND = "requests_per_second"
    CONCURRENT_REQUESTS = "concurrent_requests"


class ScalingSchedule(Noun, frozen=True, kw_only=True):
    """While it lasts, the minimum number of replicas is at least its own."""

    min_replica_count: int
    schedule: str
    """Five cron fields: when it begins."""
    duration_s: float
    timezone: str
    description: str = ""
    is_disabled: bool = False


class AutoscalingPolicy(Noun, frozen=True, kw_only=True):
    """How many replicas, between minimum and maximum. Of several load targets the largest demand wins."""

    scale_up_window_s: float = 30.0
    scale_down_window_s: float = 600.0
    scale_to_zero_window_s: float = 3600.0
    load_targets: dict[LoadTarget, float] = msgspec.field(default_factory=lambda: {LoadTarget.DEFAULT: 0.8})
    scaling_schedules: dict[str, ScalingSchedule] = {}


class Deployment(Noun, frozen=True, kw_only=True):
    """Desired serving of one base model. `desired_replica_count` is what the supervisor brings about."""

    account_id: str
    id: str
    display_name: str = ""
    description: str = ""
    base_model: str
    """Full model name; may belong to the library account."""
    state: DeploymentState
    status_message: str = ""
    """Why it is not (fully) serving: the refusal in numbers, the last failure, …"""
    min_replica_count: int = 0
    max_replica_count: int = 1
    desired_replica_count: int
    accelerator_type: str | None = None
    accelerator_count: int = 1
    precision: Precision | None = None
    """None: the checkpoint's own, or the device's nearest."""
    max_context_length: int | None = None
    draft_model: str | None = None
    """Full name of a small model that guesses ahead for the base model."""
    draft_token_count: int | None = None
    """Tokens guessed ahead in one step at most."""
    ngram_speculation_length: int | None = None
    """Guess that what followed so many tokens before follows them again."""
    autoscaling: AutoscalingPolicy = AutoscalingPolicy()
    auto_delete_s: float = 7 * 86400.0
    """Deleted when unused for so long with a minimum of zero replicas; 0: never."""
    shape: str | None = None
    """Full name of the shape version that its options were taken from."""
    shape_preset: ShapePreset | None = None
    """How much memory a replica asks for."""
    kv_cache_fraction: float | None = None
    """Share of its devices' memory that the KV cache takes, above 0 to 1; None: as the preset says."""
    enable_addons: bool = False
    """Whether LoRA addons can be deployed on it."""
    enable_session_affinity: bool = True
    is_pinned: bool = False
    """Its replicas are never put to sleep or stopped to make room for others."""
    may_evict: bool = True
    """Whether others may be put to sleep or stopped to make room for it."""
    is_serverless: bool = False
    """Made by the appliance for a library model: the first to be evicted."""
    annotations: dict[str, str] = {}
    created_by: str = ""
    """User id in the same account; empty: the appliance."""
    revision: int = 1
    """Counts the changes that need new workers; a replica serves the revision it was started for."""
    termination_message: str = ""
    """Last words of the worker that made it FAILED."""
    created_at: float
    updated_at: float
    last_used_at: float | None = None
    """Last request, at most `usage_flush_s` late; None: there was none."""
    expires_at: float | None = None
    """Deleted then, used or not."""
    deleted_at: float | None = None
    purge_at: float | None = None

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "deployments", self.id))


class DeploymentShape(Noun, frozen=True, kw_only=True):
    """One version of an account's own shape: options that a deployment takes over by naming it."""

    account_id: str
    id: str
    number: int
    """Of the version, from 1; a change of the shape is a new one."""
    display_name: str = ""
    description: str = ""
    base_model: str
    """Full model name: whose deployments it is for."""
    preset: ShapePreset | None = None
    accelerator_type: str | None = None
    accelerator_count: int = 1
    precision: Precision | None = None
    max_context_length: int | None = None
    draft_model: str | None = None
    draft_token_count: int | None = None
    ngram_speculation_length: int | None = None
    kv_cache_fraction: float | None = None
    enable_addons: bool = False
    enable_session_affinity: bool = True
    is_public: bool = False
    """Whether other accounts may see and use this version."""
    created_by: str = ""
    created_at: float
    """Of the shape; the version was made at `updated_at`."""
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "deploymentShapes", self.id))

    @property
    def version_name(self) -> str:
        return f"{self.name}/versions/v{self.number}"


class DeployedModel(Noun, frozen=True, kw_only=True):
    """A model as a deployment serves it: its base model, which creating a deployment deploys, or a LoRA addon."""

    account_id: str
    id: str
    model: str
    """Full model name."""
    deployment: str
    """Full deployment name."""
    is_default: bool
    """Whether the plain model name leads here."""
    state: DeployedModelState
    status_message: str = ""
    """Why it is not (fully) deployed."""
    has_failed: bool = False
    """No worker can load it; another try would end the same way."""
    display_name: str = ""
    description: str = ""
    is_public: bool = False
    """Whether other accounts may use it."""
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "deployedModels", self.id))


class ScalingDecision(Noun, frozen=True, kw_only=True):
    """Why a deployment's number of desired replicas changed; the newest are kept."""

    account_id: str
    deployment_id: str
    at: float
    from_count: int
    to_count: int
    reason: str
