"""The tensors of a model folder as views on the page cache. Nothing is copied; nothing is written.

Only files that inspection has listed are opened. Whoever has copied a tensor elsewhere gives its pages back with
`drop_pages`, so that a load never holds the weights twice.
"""

import mmap
import os
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from models.info import ModelInfo
from models.safetensors_header import TensorEntry, read_header
from models.text_halves import text_name
from models.vision_tensors import canonical_name

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
}  # fmt: skip


class OpenFile:
    """A descriptor for reading, closed when nothing refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


class FileTensor(NamedTuple):
    """Where a tensor lies, for whoever reads parts of it without mapping the rest."""

    file: OpenFile
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class _MappedFile(NamedTuple):
    file: OpenFile
    memory: mmap.mmap
    address: int

    def contains(self, address: int) -> bool:
        return self.address <= address < self.address + len(self.memory)


class Checkpoint:
    """`file_names` are safetensors files inside `directory`; raises ModelRefused for one that is malformed.

    `rename` gives each stored tensor the name under which it is asked for.
    """

    def __init__(
        self, directory: Path, file_names: Iterable[str], rename: Callable[[str], str] = lambda name: name
    ) -> None:
        self._files: list[_MappedFile] = []
        self._entries: dict[str, tuple[_MappedFile, TensorEntry]] = {}
        for file_name in file_names:
            file = OpenFile(directory / file_name)
            with open(file.descriptor, "rb", closefd=False) as stream:
                entries = read_header(stream, file_name)
            # Private and writable: torch warns of buffers it could not write to, and never writes to this one.
            memory = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_COPY)
            mapped = _MappedFile(file, memory, torch.frombuffer(memory, dtype=torch.uint8).data_ptr())
            self._files.append(mapped)
            self._entries.update({rename(name): (mapped, entry) for name, entry in entries.items()})

    @classmethod
    def of_model(cls, directory: Path, info: ModelInfo) -> "Checkpoint":
        """All weights of an inspected model; those of a vision-language model under the names of `models/vision.py`."""
        files = [name for name in info.file_sha256 if name.endswith(".safetensors")]
        if info.vision is None:
            return cls(directory, files, text_name)
        return cls(directory, files, partial(canonical_name, info.vision.encoder))

    @property
    def names(self) -> list[str]:
        return list(self._entries)

    def tensor(self, name: str) -> torch.Tensor:
        """A view of the file; raises KeyError for a name or a dtype that is not there."""
        mapped, entry = self._entries[name]
        dtype = _DTYPES[entry.dtype]
        if entry.size_bytes == 0:
            return torch.empty(entry.shape, dtype=dtype)
        count = entry.size_bytes // dtype.itemsize
        return torch.frombuffer(mapped.memory, dtype=dtype, count=count, offset=entry.offset).view(entry.shape)

    def locate(self, name: str) -> FileTensor:
        mapped, entry = self._entries[name]
        return FileTensor(mapped.file, entry.offset, entry.shape, _DTYPES[entry.dtype])

    def drop_pages(self, tensor: torch.Tensor) -> None:
        """Take a view's pages out of this process; whoever reads it again reads the page cache.

        A tensor that is no view of these files is left alone.
        """
        for mapped in self._files:
            if mapped.contains(tensor.data_ptr()):
                offset = tensor.data_ptr() - mapped.address
                start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
                num_pages = (offset + tensor.nbytes - start) // mmap.PAGESIZE
                if num_pages > 0:
                    mapped.memory.madvise(mmap.MADV_DONTNEED, start, num_pages * mmap.PAGESIZE)
