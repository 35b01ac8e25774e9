"""A dataset as clients see it, and what else the routes of datasets answer."""

from typing import Annotated, Any

import msgspec

from appliance.api.control.wire import Answer, Empty, Status, Wire, render_time
from appliance.domain import Dataset, DatasetState

Format = Annotated[
    str,
    msgspec.Meta(
        description="CHAT (messages), COMPLETION (prompt and completion), RL (messages to be answered), CLASSIFICATION "
        "(text and label). Left out: whatever the first example is, or lines of any JSON objects.",
        examples=["CHAT"],
    ),
]


class Splitted(Answer, frozen=True, kw_only=True):
    source_dataset_id: str


class DatasetFileAnswer(Answer, frozen=True, kw_only=True):
    filename: str
    size_bytes: str
    sha256: str | None = None
    """Once it has arrived."""


class DatasetAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    state: str
    status: Status
    format: Format
    example_count: str | None = None
    estimated_token_count: Annotated[
        str | None,
        msgspec.Meta(description="UTF-8 bytes of its texts divided by 4, and 4 for each message. No model is asked."),
    ] = None
    average_turn_count: float | None = None
    size_bytes: str
    user_uploaded: Empty | None = None
    splitted: Splitted | None = None
    files: list[DatasetFileAnswer] | None = None
    """Filled where one dataset is asked for, not in lists."""
    created_by: Annotated[str, msgspec.Meta(description="Id of the user.")]
    create_time: str | None = None
    update_time: str | None = None


class DatasetUploadEndpoint(Wire, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str]


class DatasetDownloadEndpoint(Answer, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str]


class UploadedDataset(Wire, frozen=True, kw_only=True):
    """In the form of OpenAI's files."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int = msgspec.field(name="created_at")
    """Unix seconds."""
    filename: str
    purpose: str = "fine-tune"


class SplitDatasetAnswer(Wire, frozen=True, kw_only=True):
    chunk_dataset_names: list[str]
    chunks_created: int
    total_examples: int


class DatasetPreview(Answer, frozen=True, kw_only=True):
    examples: list[dict[str, Any]]


def render_dataset(dataset: Dataset, with_files: bool = False) -> DatasetAnswer:
    is_refused = dataset.state is DatasetState.UPLOADING and dataset.status_message
    return DatasetAnswer(
        name=dataset.name,
        display_name=dataset.display_name,
        state=dataset.state,
        status=Status(code="INVALID_ARGUMENT" if is_refused else "OK", message=dataset.status_message),
        format=dataset.format or "FORMAT_UNSPECIFIED",
        example_count=_int64(dataset.example_count),
        estimated_token_count=_int64(dataset.estimated_token_count),
        average_turn_count=dataset.average_turn_count,
        size_bytes=str(dataset.size_bytes),
        user_uploaded=Empty() if dataset.source_dataset is None else None,
        splitted=Splitted(source_dataset_id=dataset.source_dataset) if dataset.source_dataset else None,
        files=_render_files(dataset) if with_files else None,
        created_by=dataset.created_by,
        create_time=render_time(dataset.created_at),
        update_time=render_time(dataset.updated_at),
    )


def _render_files(dataset: Dataset) -> list[DatasetFileAnswer]:
    return [
        DatasetFileAnswer(filename=file.filename, size_bytes=str(file.size_bytes), sha256=file.sha256 or None)
        for file in dataset.files
    ]


def _int64(number: int | None) -> str | None:
    return None if number is None else str(number)
