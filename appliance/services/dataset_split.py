"""Cutting a dataset into chunks of so many examples, each a file of its own. Blocking; knows files, no rows.

A chunk holds the examples' own bytes, one a line: no byte order mark, no blank lines, LF at each end.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance.domain import DatasetFile
from appliance.services.dataset_lines import read_lines
from appliance.store.durable_files import sync_directory


class Chunk(NamedTuple):
    folder: Path
    """Synced; holds this file and nothing else."""
    file: DatasetFile


def write_chunks(
    files: Sequence[Path], chunk_size: int, folders: Sequence[Path], filenames: Sequence[str], line_bytes_max: int
) -> list[Chunk]:
    """One folder, which does not exist yet, and one file name for each chunk that there will be."""
    examples = read_examples(files, line_bytes_max)
    return [
        _write_chunk(islice(examples, chunk_size), folder, filename)
        for folder, filename in zip(folders, filenames, strict=True)
    ]


def read_examples(files: Sequence[Path], line_bytes_max: int) -> Iterator[bytes]:
    """Of files that have been checked."""
    for file in files:
        for line in read_lines(file, line_bytes_max):
            assert line.content is not None, "a READY dataset has no line that is too long"
            yield line.content


def read_preview(files: Sequence[Path], max_examples: int, num_bytes: int, line_bytes_max: int) -> list[dict[str, Any]]:
    """The first examples, up to the one that exceeds `num_bytes`."""
    shown = []
    for example in islice(read_examples(files, line_bytes_max), max_examples):
        shown.append(msgspec.json.decode(example, type=dict[str, Any]))
        num_bytes -= len(example)
        if num_bytes < 0:
            break
    return shown


def _write_chunk(examples: Iterator[bytes], folder: Path, filename: str) -> Chunk:
    folder.mkdir(mode=0o700)
    digest, size_bytes = hashlib.sha256(), 0
    with (folder / filename).open("xb") as file:
        for example in examples:
            line = example + b"\n"
            file.write(line)
            digest.update(line)
            size_bytes += len(line)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(folder)
    return Chunk(folder, DatasetFile(filename=filename, size_bytes=size_bytes, sha256=digest.hexdigest()))
