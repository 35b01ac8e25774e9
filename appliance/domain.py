"""The vocabulary: every noun the daemon stores or passes around, read at one sitting.

Times are unix seconds (`*_at`); sizes are bytes. Rows of two accounts never mix: each noun carries its `account_id`,
and (account_id, id) is its key. Wire names and casing belong to `api/`, SQL to `store/`.
"""

from enum import StrEnum

import msgspec

from appliance.names import ResourceName
from models.info import ModelInfo


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


class ModelState(StrEnum):
    UPLOADING = "UPLOADING"  # row exists, files may arrive, not deployable
    READY = "READY"  # files complete and inspected


class DeploymentState(StrEnum):
    CREATING = "CREATING"  # no replica has served yet
    READY = "READY"  # serves, or holds zero replicas on request
    FAILED = "FAILED"  # the last replica gave up; `status_message` says why
    DELETING = "DELETING"  # replicas are being stopped
    DELETED = "DELETED"  # soft-deleted, invisible unless asked for


class DeployedModelState(StrEnum):
    DEPLOYING = "DEPLOYING"
    DEPLOYED = "DEPLOYED"
    UNDEPLOYING = "UNDEPLOYING"


class ReplicaState(StrEnum):
    """One worker process's life; `orchestrator/replica.py` owns it and holds the table of transitions."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"  # process spawned, socket not yet greeted
    LOADING = "LOADING"  # worker reads weights
    READY = "READY"
    DRAINING = "DRAINING"  # takes nothing new, finishes what runs
    STOPPING = "STOPPING"  # told to exit, or killed; waits for the process and its memory
    FAILED = "FAILED"  # ended unasked; waits for its back-off


class Precision(StrEnum):
    """Wire values of `Deployment.precision` that this version can serve."""

    BF16 = "BF16"
    FP16 = "FP16"
    FP32 = "FP32"  # ours: for exact comparison on CPU


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
    directory: str
    """Server-made folder name under the data directory's `models/`; never derived from client text."""
    info: ModelInfo | None = None
    """What inspection found; set when READY."""
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
    annotations: dict[str, str] = {}
    created_by: str = ""
    """User id in the same account."""
    created_at: float
    updated_at: float
    deleted_at: float | None = None
    purge_at: float | None = None

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "deployments", self.id))


class DeployedModel(Noun, frozen=True, kw_only=True):
    """A model as a deployment serves it. Creating a deployment makes one for its base model."""

    account_id: str
    id: str
    model: str
    """Full model name."""
    deployment: str
    """Full deployment name."""
    is_default: bool
    """Whether the plain model name leads here."""
    state: DeployedModelState
    display_name: str = ""
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "deployedModels", self.id))


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
