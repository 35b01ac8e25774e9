"""The vocabulary: every noun the daemon stores or passes around, read at one sitting.

Times are unix seconds (`*_at`); sizes are bytes. Rows of two accounts never mix: each noun carries its `account_id`,
and (account_id, id) is its key. Wire names and casing belong to `api/`, SQL to `store/`.
"""

from enum import StrEnum

import msgspec

from appliance.names import ResourceName
from models.info import AddonInfo, ModelInfo


class Noun(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable; `msgspec.structs.replace` makes the changed copy."""


class Role(StrEnum):
    ADMIN = "admin"
    USER = "user"
    CONTRIBUTOR = "contributor"
    INFERENCE_USER = "inference-user"


class ModelKind(StrEnum):
    """Wire values of `Model.kind` that this version can serve."""

    HF_BASE_MODEL = "HF_BASE_MODEL"
    HF_PEFT_ADDON = "HF_PEFT_ADDON"  # LoRA weights that change a base model


class ModelState(StrEnum):
    UPLOADING = "UPLOADING"  # row exists, files may arrive, not deployable
    READY = "READY"  # files complete and inspected


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


class ReplicaState(StrEnum):
    """One worker process's life; `orchestrator/replica.py` owns it and holds the table of transitions."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"  # process spawned, socket not yet greeted
    LOADING = "LOADING"  # worker reads weights
    READY = "READY"
    ASLEEP = "ASLEEP"  # process and weights stay in host memory; its devices' memory is given back
    DRAINING = "DRAINING"  # takes nothing new, finishes what runs
    STOPPING = "STOPPING"  # told to exit, or killed; waits for the process and its memory
    FAILED = "FAILED"  # ended unasked; waits for its back-off


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


class Account(Noun, frozen=True, kw_only=True):
    id: str
    display_name: str = ""
    email: str = ""
    created_at: float
    updated_at: float


class User(Noun, frozen=True, kw_only=True):
    account_id: str
    id: str
    display_name: str = ""
    email: str = ""
    role: Role
    is_service_account: bool = False
    created_at: float
    updated_at: float


class ApiKey(Noun, frozen=True, kw_only=True):
    """A key as stored: the secret itself is shown once at creation and only its SHA-256 stays."""

    account_id: str
    user_id: str
    id: str
    """Public part of the key, indexed; not secret."""
    display_name: str = ""
    secret_sha256: bytes
    created_at: float
    expires_at: float | None = None


class Principal(Noun, frozen=True, kw_only=True):
    """Who asks: the answer of `services/identity.py` to a key, carried on the request."""

    account_id: str
    user_id: str
    key_id: str
    role: Role


class Model(Noun, frozen=True, kw_only=True):
    account_id: str
    id: str
    display_name: str = ""
    description: str = ""
    kind: ModelKind = ModelKind.HF_BASE_MODEL
    state: ModelState
    status_message: str = ""
    is_public: bool = False
    is_serverless: bool = False
    """Of the library: deployed by the appliance itself when somebody asks for it, shared by all accounts."""
    directory: str
    """Server-made folder name under the data directory's `models/`; never derived from client text."""
    info: ModelInfo | None = None
    """What inspection found; set when READY."""
    base_model: str | None = None
    """Of an addon: the full name of the model that it changes."""
    addon_info: AddonInfo | None = None
    """Of an addon, in the place of `info`."""
    created_by: str = ""
    """User id in the same account."""
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "models", self.id))


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


class Footprint(Noun, frozen=True, kw_only=True):
    """What a replica really held, measured when it had loaded; takes the place of the estimate the next time."""

    key: str
    """Digest of all that the footprint depends on: `orchestrator/footprints.py` makes it."""
    num_bytes: int
    """On each of its devices: process, weights and activations, and `kv_bytes`."""
    kv_bytes: int
    load_s: float
    """Running average of loads from a cold process, seconds from spawn to READY."""
    warm_load_s: float | None
    """Likewise of loads by a spare worker."""
    measured_at: float


class Lease(Noun, frozen=True, kw_only=True):
    """Memory of devices lent to a program outside Hearth until it gives it back or the time is over."""

    id: str
    account_id: str
    user_id: str
    device_ids: list[str]
    num_bytes: int
    """On each device."""
    command: str = ""
    """Shown to operators: the program that asked, without its arguments."""
    created_at: float
    expires_at: float


class ReplicaRow(Noun, frozen=True, kw_only=True):
    """What must be known of a worker after the daemon died: enough to find and end a leftover, and no more."""

    account_id: str
    deployment_id: str
    index: int
    device_ids: list[str]
    reserved_bytes: int
    """Per device."""
    pid: int
    pid_started_ticks: int
    """Field 22 of /proc/PID/stat: with `boot_id` it tells this process from a later one with the same pid."""
    boot_id: str
    started_at: float
