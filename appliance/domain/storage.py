"""What is kept in files: models and datasets, and what brings them."""

from enum import StrEnum

import msgspec

from appliance.domain.nouns import Noun
from appliance.names import ResourceName
from models.info import AddonInfo, AnyServedInfo, ModelInfo


class ModelKind(StrEnum):
    """Wire values of `Model.kind` that this version can serve."""

    HF_BASE_MODEL = "HF_BASE_MODEL"
    HF_PEFT_ADDON = "HF_PEFT_ADDON"  # LoRA weights that change a base model
    EMBEDDING_MODEL = "EMBEDDING_MODEL"  # makes vectors or scores of texts
    FLUMINA_BASE_MODEL = "FLUMINA_BASE_MODEL"  # makes pictures
    FLUMINA_ADDON = "FLUMINA_ADDON"  # LoRA weights that change one that makes pictures
    CUSTOM_MODEL = "CUSTOM_MODEL"  # hears: of the Whisper family

    @property
    def is_addon(self) -> bool:
        return self in (ModelKind.HF_PEFT_ADDON, ModelKind.FLUMINA_ADDON)


class ModelState(StrEnum):
    UPLOADING = "UPLOADING"  # row exists, files may arrive, not deployable
    READY = "READY"  # files complete and inspected


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
    info: AnyServedInfo | None = None
    """What inspection found; set when READY."""
    base_model: str | None = None
    """Of an addon: the full name of the model that it changes."""
    addon_info: AddonInfo | None = None
    """Of an addon, in the place of `info`."""
    context_length: int | None = None
    """Most tokens that its deployments may serve; None: as many as the checkpoint reaches."""
    default_draft_model: str | None = None
    """Full name of what guesses ahead on deployments that name nobody themselves."""
    default_draft_token_count: int | None = None
    github_url: str = ""
    hugging_face_url: str = ""
    deprecation_date: str | None = None
    """YYYY-MM-DD, what is not significant as zeros: for people to read, nothing happens then."""
    imported_from: str = ""
    """A repository of the hub and its commit, another model's name, or that it was a folder of this machine."""
    size_bytes: int = 0
    """Of its files: as announced while UPLOADING, as they are once READY."""
    announced_files: dict[str, int] = {}
    """While UPLOADING: the sizes of all files that URLs were given for."""
    created_by: str = ""
    """User id in the same account."""
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "models", self.id))

    @property
    def llm_info(self) -> ModelInfo | None:
        """None also of a model that is none for language."""
        return self.info if isinstance(self.info, ModelInfo) else None

    @property
    def served_info(self) -> AnyServedInfo | None:
        """What inspection found, within what its owner lets it be."""
        if self.info is None or self.context_length is None:
            return self.info
        return msgspec.structs.replace(self.info, max_context_length=self.context_length)


class OperationState(StrEnum):
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Operation(Noun, frozen=True, kw_only=True):
    """Work that takes longer than a request: the import of a model."""

    account_id: str
    id: str
    model: str
    """Full name of the model that is being made."""
    source: str
    """What it is made from, as a person would say it."""
    state: OperationState = OperationState.RUNNING
    error_code: str = ""
    """Of one that FAILED: a code of `errors.py`."""
    error_message: str = ""
    num_bytes: int = 0
    """That are there."""
    total_bytes: int = 0
    created_by: str = ""
    """User id in the same account."""
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "operations", self.id))


class DatasetState(StrEnum):
    UPLOADING = "UPLOADING"  # row exists, files may arrive, nothing may use it
    READY = "READY"  # files complete and checked line by line; never changes again


class DatasetFormat(StrEnum):
    """Wire values of `Dataset.format`: what each line holds."""

    CHAT = "CHAT"  # messages
    COMPLETION = "COMPLETION"  # prompt and completion
    RL = "RL"  # messages that somebody else is to answer, and whatever judges the answer
    CLASSIFICATION = "CLASSIFICATION"  # ours: text and label


class DatasetFile(Noun, frozen=True, kw_only=True):
    """One file of a dataset, as announced or as it lies there."""

    filename: str
    """Checked client text: flat, and without meaning to any file system."""
    size_bytes: int
    sha256: str = ""
    """Empty: it has not arrived yet."""


class Dataset(Noun, frozen=True, kw_only=True):
    """Examples for training or batch inference, as JSON lines; immutable once READY."""

    account_id: str
    id: str
    display_name: str = ""
    state: DatasetState
    status_message: str = ""
    """Why the last check refused it; of a READY one, what looked odd."""
    format: DatasetFormat | None = None
    """None: lines of any JSON objects, or not looked at yet."""
    example_count: int | None = None
    """As announced until READY, then as counted."""
    estimated_token_count: int | None = None
    average_turn_count: float | None = None
    directory: str
    """Server-made folder name under the data directory's `datasets/`; never derived from client text."""
    files: list[DatasetFile] = []
    size_bytes: int = 0
    """Of its files, announced ones included: what counts against the quota."""
    source_dataset: str | None = None
    """Full name of the dataset that this is a chunk of; that may be gone by now."""
    created_by: str = ""
    """User id in the same account."""
    created_at: float
    updated_at: float

    @property
    def name(self) -> str:
        return str(ResourceName(self.account_id, "datasets", self.id))
