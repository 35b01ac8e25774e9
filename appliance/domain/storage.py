"""What is kept in files: models and datasets, and what brings them."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from appliance.domain.nouns import Noun
from appliance.domain.serving import Precision
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


class PreparationState(StrEnum):
    PREPARING = "PREPARING"  # a process works on it, or will when the daemon is back
    READY = "READY"
    FAILED = "FAILED"  # for good: asked again, it begins anew


class Preparation(Noun, frozen=True, kw_only=True):
    """A checkpoint that the appliance makes of a model's own, in another precision."""

    state: PreparationState
    message: str = ""
    """Why it FAILED."""
    info: ModelInfo | None = None
    """What inspection found; set when READY."""
    size_bytes: int = 0
    """Of its files, which count among the model's; while PREPARING what they will take, at most."""


class ModelCheckpoint(NamedTuple):
    """One of a model's checkpoints."""

    directory: str
    """Below the data directory's `models/`."""
    info: AnyServedInfo
    """Within what the model's owner lets it be."""


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
    preparations: dict[Precision, Preparation] = {}
    """Checkpoints beside its own, each in a folder inside its folder, named by `prepared_folder`."""
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
        return None if self.info is None else self._limited(self.info)

    @property
    def precisions(self) -> list[Precision]:
        """What it can be deployed in now."""
        if self.info is None:
            return []
        return [each for each in Precision if self.checkpoint(each) is not None]

    def checkpoint(self, precision: Precision | None) -> ModelCheckpoint | None:
        """What is loaded to serve it so; None: it is not READY, or not prepared for that."""
        if self.info is None or self.state is not ModelState.READY:
            return None
        is_own = precision is not Precision.FP8 or (self.llm_info is not None and self.llm_info.fp8 is not None)
        if precision is None or is_own:
            return ModelCheckpoint(self.directory, self._limited(self.info))
        prepared = self.preparations.get(precision)
        if prepared is None or prepared.info is None:
            return None
        return ModelCheckpoint(f"{self.directory}/{prepared_folder(precision)}", self._limited(prepared.info))

    def _limited(self, info: AnyServedInfo) -> AnyServedInfo:
        if self.context_length is None:
            return info
        return msgspec.structs.replace(info, max_context_length=self.context_length)


def prepared_folder(precision: Precision) -> str:
    return precision.lower()


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
