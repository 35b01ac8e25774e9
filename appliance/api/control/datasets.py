"""Routes of datasets: create, upload in one request or file by file to signed URLs, check, look, split, delete."""

import re
from typing import Annotated, Any

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.dataset_answer import (
    DatasetAnswer,
    DatasetDownloadEndpoint,
    DatasetPreview,
    DatasetUploadEndpoint,
    Format,
    SplitDatasetAnswer,
    UploadedDataset,
    render_dataset,
)
from appliance.api.control.multipart import open_file_part
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.transfers import base_url
from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import (
    Empty,
    Int64,
    NotServed,
    ResourceId,
    Wire,
    decode,
    decode_query,
    is_neutral,
    parse_enum,
)
from appliance.api.routing import Content, Permission, Route, principal, services
from appliance.domain import Dataset, DatasetFormat
from appliance.errors import Code, HearthError
from appliance.names import last_segment
from appliance.services.grants import is_filename

COLLECTION = "/v1/accounts/{account_id}/datasets"
DATASET = "/v1/accounts/{account_id}/datasets/{dataset_id}"
UPLOAD_FIELD = "file"
UNNAMED_FILE = "dataset.jsonl"
PREVIEW_EXAMPLES_DEFAULT = 10
_DIRECTORIES = re.compile(r".*[/\\]", re.S)


class SplittedBody(Wire, frozen=True, kw_only=True):
    source_dataset_id: str = ""


class DatasetBody(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    format: Format | None = None
    example_count: Annotated[Int64 | None, msgspec.Meta(description="A forecast; READY datasets are counted.")] = None
    user_uploaded: dict[str, Any] | None = None
    """The only kind of dataset that is created so."""
    eval_protocol: NotServed = None
    evaluation_result: NotServed = None
    external_url: NotServed = None
    source_job_name: NotServed = None
    splitted: NotServed = None
    transformed: NotServed = None


class DatasetUpdateBody(DatasetBody, frozen=True, kw_only=True):
    """Only the display name can be changed; what else is present must be as it is."""

    splitted: SplittedBody | None = None


class CreateDatasetBody(Wire, frozen=True, kw_only=True):
    dataset_id: Annotated[ResourceId, msgspec.Meta(description="1 to 63 of a-z, 0-9 and '-'.", examples=["my-dataset"])]
    dataset: DatasetBody
    source_dataset_id: NotServed = None
    filter: NotServed = None


class DatasetUploadEndpointBody(Wire, frozen=True, kw_only=True):
    filename_to_size: Annotated[
        dict[str, Int64], msgspec.Meta(description="All files of the dataset, with their sizes in bytes.")
    ]


class SplitDatasetBody(Wire, frozen=True, kw_only=True):
    chunk_size: Annotated[Int64, msgspec.Meta(description="Examples in each chunk.", examples=[1000])]
    parent: Annotated[str | None, msgspec.Meta(description="Full name of the dataset's own account, or nothing.")] = (
        None
    )


class DownloadQuery(Wire, frozen=True, kw_only=True):
    download_lineage: Annotated[
        bool, msgspec.Meta(description="Also what it was split from; file names then begin with the dataset's id.")
    ] = False


class PreviewQuery(Wire, frozen=True, kw_only=True):
    max_examples: Annotated[int, msgspec.Meta(ge=1, le=1000)] = PREVIEW_EXAMPLES_DEFAULT


async def create_dataset(request: web.Request) -> web.StreamResponse:
    """Create a dataset that waits for its files."""
    body = await decode(request, CreateDatasetBody)
    properties = body.dataset
    dataset = await services(request).datasets.rows.create(
        principal(request),
        request.match_info["account_id"],
        body.dataset_id,
        display_name=properties.display_name or "",
        format=parse_enum(DatasetFormat, properties.format, "dataset.format"),
        example_count=None if properties.example_count is None else int(properties.example_count),
        fields=_given(properties),
    )
    return json_response(render_dataset(dataset))


async def list_datasets(request: web.Request) -> web.StreamResponse:
    """List the datasets of an account."""
    found = await services(request).datasets.rows.list(principal(request), request.match_info["account_id"])
    return list_response(request, "datasets", DatasetAnswer, found, render_dataset)


async def get_dataset(request: web.Request) -> web.StreamResponse:
    """Get a dataset: its state, what it holds, and which of its files have arrived."""
    dataset = await services(request).datasets.rows.get(principal(request), *_name(request))
    return masked_response(request, render_dataset(dataset, with_files=True))


async def update_dataset(request: web.Request) -> web.StreamResponse:
    """Change the display name of a dataset. Its files never change once it is READY."""
    body = masked_update(request, await decode(request, DatasetUpdateBody))
    here = services(request).datasets.rows
    dataset = await here.get_to_change(principal(request), *_name(request))
    _refuse_other_values(body, dataset)
    if body.display_name is not None:
        dataset = await here.update(principal(request), *_name(request), display_name=body.display_name)
    return json_response(render_dataset(dataset))


async def delete_dataset(request: web.Request) -> web.StreamResponse:
    """Delete a dataset and its files."""
    await services(request).datasets.rows.delete(principal(request), *_name(request))
    return json_response(Empty())


async def get_dataset_upload_endpoint(request: web.Request) -> web.StreamResponse:
    """Get a signed URL for each file of a dataset.

    Each call says anew which files there are: those of before that are not named are removed. Those that have arrived
    with the size named stay, and need not be sent again.
    """
    body = await decode(request, DatasetUploadEndpointBody)
    sizes = {filename: int(size) for filename, size in body.filename_to_size.items()}
    urls = await services(request).datasets.uploads.upload_urls(
        principal(request), *_name(request), sizes, base_url(request)
    )
    return json_response(DatasetUploadEndpoint(filename_to_signed_urls=urls))


async def upload_dataset(request: web.Request) -> web.StreamResponse:
    """Upload a dataset of one file in one request, and have it checked: then it is READY.

    A larger one, or one of several files, goes to signed URLs.
    """
    config = services(request).config
    size_bytes_max = config.datasets.dataset_upload_bytes_max
    part = await open_file_part(request, UPLOAD_FIELD, size_bytes_max, config.server.upload_idle_timeout_s)
    filename = _DIRECTORIES.sub("", part.filename or "")
    dataset = await services(request).datasets.uploads.upload(
        principal(request),
        *_name(request),
        filename if is_filename(filename) else UNNAMED_FILE,
        part.chunks,
        min(size_bytes_max, request.content_length or size_bytes_max),
    )
    (file,) = dataset.files
    return json_response(
        UploadedDataset(
            id=dataset.id, bytes=file.size_bytes, created_at=int(dataset.updated_at), filename=file.filename
        )
    )


async def validate_dataset_upload(request: web.Request) -> web.StreamResponse:
    """Check every line of a dataset's files and make it READY.

    Otherwise the message says what is wrong, one line for each problem: `train.jsonl line 17: messages[2].role: …`.
    """
    await decode(request, Empty)
    await services(request).datasets.uploads.validate(principal(request), *_name(request))
    return json_response(Empty())


async def get_dataset_download_endpoint(request: web.Request) -> web.StreamResponse:
    """Get a signed URL for each file of a READY dataset."""
    query = decode_query(request, DownloadQuery)
    urls = await services(request).datasets.rows.download_urls(
        principal(request), *_name(request), base_url(request), query.download_lineage
    )
    return masked_response(request, DatasetDownloadEndpoint(filename_to_signed_urls=urls))


async def split_dataset(request: web.Request) -> web.StreamResponse:
    """Split a READY dataset into datasets of `chunkSize` examples each, named ID-chunk-1, ID-chunk-2 and so on."""
    body = await decode(request, SplitDatasetBody)
    account_id, dataset_id = _name(request)
    if body.parent and body.parent != f"accounts/{account_id}":
        raise HearthError(Code.INVALID, "parent: chunks are made in the dataset's own account", "parent")
    chunk_size = int(body.chunk_size)
    if chunk_size < 1:
        raise HearthError(Code.INVALID, "chunkSize: must be at least 1", "chunkSize")
    chunks = await services(request).datasets.chunks.split(principal(request), account_id, dataset_id, chunk_size)
    return json_response(
        SplitDatasetAnswer(
            chunk_dataset_names=[chunk.name for chunk in chunks],
            chunks_created=len(chunks),
            total_examples=sum(chunk.example_count or 0 for chunk in chunks),
        )
    )


async def preview_dataset(request: web.Request) -> web.StreamResponse:
    """Look at the first examples of a READY dataset, at most 100 of them and about a megabyte."""
    query = decode_query(request, PreviewQuery)
    examples = await services(request).datasets.rows.preview(principal(request), *_name(request), query.max_examples)
    return masked_response(request, DatasetPreview(examples=examples))


def _given(body: Wire) -> list[str]:
    fields = msgspec.structs.fields(body)
    return [field.encode_name for field in fields if not is_neutral(getattr(body, field.name))]


def _refuse_other_values(body: DatasetUpdateBody, dataset: Dataset) -> None:
    """Of what never changes; as the client has read it, it may be sent back."""
    source = body.splitted.source_dataset_id if body.splitted else ""
    is_other = {
        "format": not is_neutral(body.format) and body.format != dataset.format,
        "exampleCount": body.example_count is not None and int(body.example_count) != dataset.example_count,
        "splitted.sourceDatasetId": bool(source) and source != dataset.source_dataset,
    }
    for name, differs in is_other.items():
        if differs:
            raise HearthError(Code.INVALID, f"{name}: it cannot be changed; create a new dataset", name)


def _name(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id = request.match_info["account_id"]
    return account_id, last_segment(request.match_info["dataset_id"], account_id, "datasets", "dataset_id")


UPLOAD_BODY = Content(
    "multipart/form-data", "The file, in the part called `file`. Nothing else is read.", parts=("file",)
)

# What datasets hold is read with `write` access: the key of an inference user lies in somebody's program, and whoever
# finds it there shall not find what models were trained on.
ROUTES = [
    Route("POST", COLLECTION, create_dataset, Permission.WRITE, CreateDatasetBody, DatasetAnswer),
    Route("GET", COLLECTION, list_datasets, Permission.READ, answer=DatasetAnswer, plural="datasets"),
    Route("GET", DATASET, get_dataset, Permission.READ, answer=DatasetAnswer),
    Route("PATCH", DATASET, update_dataset, Permission.WRITE, DatasetUpdateBody, DatasetAnswer),
    Route("DELETE", DATASET, delete_dataset, Permission.WRITE, answer=Empty),
    Route(
        "POST",
        f"{DATASET}:getUploadEndpoint",
        get_dataset_upload_endpoint,
        Permission.WRITE,
        DatasetUploadEndpointBody,
        DatasetUploadEndpoint,
    ),
    Route("POST", f"{DATASET}:upload", upload_dataset, Permission.WRITE, UPLOAD_BODY, UploadedDataset),
    Route("POST", f"{DATASET}:validateUpload", validate_dataset_upload, Permission.WRITE, Empty, Empty),
    Route(
        "GET",
        f"{DATASET}:getDownloadEndpoint",
        get_dataset_download_endpoint,
        Permission.WRITE,
        answer=DatasetDownloadEndpoint,
        query=DownloadQuery,
    ),
    Route("POST", f"{DATASET}:splitDataset", split_dataset, Permission.WRITE, SplitDatasetBody, SplitDatasetAnswer),
    Route("GET", f"{DATASET}:preview", preview_dataset, Permission.WRITE, answer=DatasetPreview, query=PreviewQuery),
]
