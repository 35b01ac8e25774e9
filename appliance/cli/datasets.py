"""`hearth … dataset`: bring examples onto the box, look at them, take them back, cut them into pieces, remove them."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from appliance.cli.commands import Command, Session
from appliance.cli.listing import Filter, OrderBy
from appliance.cli.output import (
    print_json,
    print_line,
    print_note,
    print_record,
    print_table,
    progress_line,
    readable_time,
    upload_progress,
)
from appliance.cli.units import readable_bytes
from appliance.sdk.datasets import Dataset, place_in
from appliance.sdk.errors import Conflict, Invalid, SdkError

SUFFIX = ".jsonl"

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="Id, or full name: accounts/ACCOUNT/datasets/ID.")]


def create(
    session: Session,
    dataset_id: Annotated[str, typer.Argument(metavar="ID", help="Letters a-z, digits and hyphens.")],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", exists=True, help="A file of JSON lines, or a folder of .jsonl files.")
    ],
    display_name: Annotated[
        str, typer.Option(metavar="NAME", help="Human-readable name, fewer than 64 characters.")
    ] = "",
    format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="CHAT, COMPLETION, RL or CLASSIFICATION. Default: as the first line is."),
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no upload progress.")] = False,
) -> None:
    """Upload a dataset. The daemon checks every line; afterwards the dataset can be used.

    When an upload broke off, the same command takes it up again, and sends only what has not arrived.
    """
    files = files_of(path)
    try:
        dataset = session.client.datasets.create(dataset_id, display_name=display_name, format=format.upper())
    except Conflict:
        dataset = session.client.datasets.get(dataset_id)
        if dataset.state != "UPLOADING":
            raise
        print_note(f"{dataset.name} waits for its files; going on with them")
    try:
        with upload_progress(files, is_quiet=quiet) as on_sent:
            session.client.datasets.upload(dataset.name, files, on_sent)
    except SdkError as error:
        print_note(
            f"{dataset.name} stays UPLOADING: correct the files and repeat, or hearth delete dataset {dataset_id}"
        )
        raise _with_its_lines(error) from error
    _show(session, session.client.datasets.get(dataset.name))


def get(session: Session, dataset: DatasetName) -> None:
    """Show one dataset, and which of its files have arrived."""
    _show(session, session.client.datasets.get(dataset))


def list_all(session: Session, only: Filter = "", order_by: OrderBy = "") -> None:
    """Show the datasets of an account."""
    datasets = list(session.client.datasets.list(filter=only, order_by=order_by))
    if session.is_json:
        return print_json(datasets)
    rows = [
        [
            _id(each.name),
            each.state,
            each.format,
            f"{int(each.example_count):,}",
            _size(each),
            readable_time(each.create_time),
        ]
        for each in datasets
    ]
    return print_table(["ID", "STATE", "FORMAT", "EXAMPLES", "SIZE", "CREATED"], rows)


def update(
    session: Session,
    dataset: DatasetName,
    display_name: Annotated[str, typer.Option(metavar="NAME", help="Human-readable name; empty removes it.")],
) -> None:
    """Rename a dataset for people. Its files never change once it is READY."""
    _show(session, session.client.datasets.update(dataset, display_name=display_name))


def delete(session: Session, dataset: DatasetName) -> None:
    """Remove a dataset and its files."""
    session.client.datasets.delete(dataset)
    if session.is_json:
        return print_json({})
    return print_line(f"Deleted {dataset}")


def download(
    session: Session,
    dataset: DatasetName,
    output_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to. Default: named as the dataset.")
    ] = None,
    download_lineage: Annotated[
        bool, typer.Option("--download-lineage", help="Also what it was split from, each in a folder of its own.")
    ] = False,
) -> None:
    """Bring the files of a dataset here. Repeated, it goes on with what is missing."""
    urls = session.client.datasets.download_urls(dataset, with_lineage=download_lineage)
    folder = output_dir or Path(_id(dataset))
    places = {place_in(folder, name): url for name, url in urls.items()}
    with progress_line() as line:
        for place, url in places.items():
            line.show(f"downloading {place}")
            place.parent.mkdir(parents=True, exist_ok=True)
            session.client.datasets.download(url, place)
    if session.is_json:
        return print_json({"files": [str(place) for place in places]})
    for place in places:
        print_line(str(place))
    return None


def preview(
    session: Session,
    dataset: DatasetName,
    max_examples: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="How many examples.")] = 10,
) -> None:
    """Show the first examples of a dataset, one line each."""
    examples = session.client.datasets.preview(dataset, max_examples)
    if session.is_json:
        return print_json(examples)
    for example in examples:
        print_line(msgspec.json.encode(example).decode())
    return None


def split(
    session: Session,
    dataset: DatasetName,
    chunk_size: Annotated[int, typer.Option(min=1, metavar="N", help="Examples in each new dataset.")],
) -> None:
    """Cut a dataset into new ones: ID-chunk-1, ID-chunk-2, and so on. The dataset itself stays."""
    result = session.client.datasets.split(dataset, chunk_size)
    if session.is_json:
        return print_json(result)
    for name in result.chunk_dataset_names:
        print_line(name)
    return None


def files_of(path: Path) -> list[Path]:
    """One file, or those of a folder that end in .jsonl."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    files = [file for file in found if file.suffix == SUFFIX and file.is_file()]
    if not files:
        raise SdkError(f"{path} has no {SUFFIX} files")
    if left_out := [file.name for file in found if file not in files]:
        print_note(f"No {SUFFIX} files, left out: {', '.join(left_out)}")
    return files


def _with_its_lines(error: SdkError) -> SdkError:
    """What is wrong with several lines of the files is shown line by line, and counted in the error itself."""
    if not isinstance(error, Invalid) or error.param != "file":
        return error
    summary, *problems = error.message.splitlines()
    for problem in problems:
        print_note(f"  {problem}")
    return SdkError(summary.rstrip(":"))


def _show(session: Session, dataset: Dataset) -> None:
    if session.is_json:
        return print_json(dataset)
    source = dataset.splitted.source_dataset_id if dataset.splitted else ""
    return print_record(
        [
            ("Name", dataset.name),
            ("Display name", dataset.display_name),
            ("State", dataset.state),
            ("Status", dataset.status.message),
            ("Format", dataset.format),
            ("Examples", f"{int(dataset.example_count):,}"),
            ("Tokens", f"about {int(dataset.estimated_token_count):,}" if dataset.estimated_token_count != "0" else ""),
            ("Turns", f"{dataset.average_turn_count:.1f} on average" if dataset.average_turn_count else ""),
            ("Size", _size(dataset)),
            ("Split from", source),
            ("Created by", dataset.created_by),
            ("Created", readable_time(dataset.create_time)),
            ("Updated", readable_time(dataset.update_time)),
            *(
                ("File", f"{file.filename}, {int(file.size_bytes):,} bytes{'' if file.sha256 else ', not here yet'}")
                for file in dataset.files
            ),
        ]
    )


def _size(dataset: Dataset) -> str:
    num_bytes = int(dataset.size_bytes)
    return readable_bytes(num_bytes) if num_bytes >= 1024 else f"{num_bytes} bytes"


def _id(name: str) -> str:
    return name.rpartition("/")[2]


COMMANDS = [
    Command(
        "create",
        "dataset",
        create,
        ("hearth create dataset my-dataset ./train.jsonl", "hearth create dataset my-dataset ./shards/ --format CHAT"),
    ),
    Command("get", "dataset", get, ("hearth get dataset my-dataset",)),
    Command("list", "dataset", list_all, ("hearth list datasets",)),
    Command("update", "dataset", update, ("hearth update dataset my-dataset --display-name 'Questions of 2030'",)),
    Command("delete", "dataset", delete, ("hearth delete dataset my-dataset",)),
    Command("download", "dataset", download, ("hearth download dataset my-dataset --output-dir ./data",)),
    Command("preview", "dataset", preview, ("hearth preview dataset my-dataset --max-examples 3",)),
    Command("split", "dataset", split, ("hearth split dataset my-dataset --chunk-size 1000",)),
]
