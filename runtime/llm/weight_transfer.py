"""Weights on their way from files into an arena: read side by side, copied to the device while the next are read.

Threads read pieces of the files, large ones and in order, into a ring of host memory, which is page-locked where the
device is a GPU. The calling thread has each copied to the device as soon as it is there, and what is stored in
another dtype converted on the device. Knows nothing of parameters; the plan is `weight_arena.py`'s.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import NamedTuple

import torch

from runtime.llm.checkpoint import OpenFile
from runtime.llm.weight_arena import Extent, Move

_SLOT_BYTES = 32 * 1024 * 1024
_NUM_SLOTS = 8
_NUM_READERS = 4
_GAP_BYTES_MAX = 256 * 1024
"""Between tensors that are wanted; reading over a smaller one costs less than another read."""

Mark = torch.cuda.Event | float
"""A moment on the device."""


class Durations(NamedTuple):
    """Of parts that go on side by side, in milliseconds."""

    read: float
    """Spent reading, by each thread on average."""
    copy: float
    """Spent by the device; so is the next."""
    convert: float


class Piece(NamedTuple):
    """Part of a chunk, and where it goes."""

    start: int
    dtype: torch.dtype
    """As stored."""
    target: Extent
    """One-dimensional."""

    @property
    def stop(self) -> int:
        return self.start + self.target.shape[0] * self.dtype.itemsize


class Chunk(NamedTuple):
    """What is read at once."""

    file: OpenFile
    offset: int
    pieces: list[Piece]

    @property
    def size_bytes(self) -> int:
        return self.pieces[-1].stop


class _Slot:
    """Host memory for a chunk."""

    def __init__(self, size_bytes: int, device: torch.device) -> None:
        self.memory = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.copied: Mark = 0.0
        """When it may be written to again."""

    def read(self, chunk: Chunk) -> float:
        """Returns how many seconds that took."""
        if isinstance(self.copied, torch.cuda.Event):
            self.copied.synchronize()
        began_at = perf_counter()
        rest, offset = self.memory.numpy().data[: chunk.size_bytes], chunk.offset
        while rest:
            num_bytes = os.preadv(chunk.file.descriptor, [rest], offset)
            if not num_bytes:
                raise OSError("the checkpoint has become shorter")
            rest, offset = rest[num_bytes:], offset + num_bytes
        return perf_counter() - began_at


def transfer(
    moves: Sequence[Move], arena: torch.Tensor, report: Callable[[float], None] = lambda fraction: None
) -> Durations:
    """Fill the arena; `moves` are in the order of the files. When it returns the device has done all of it."""
    chunks = cut(moves, _SLOT_BYTES)
    slot_bytes = max((chunk.size_bytes for chunk in chunks), default=0)
    free = deque(_Slot(slot_bytes, arena.device) for _ in range(min(_NUM_SLOTS, len(chunks))))
    under_way: deque[tuple[Future[float], _Slot, Chunk]] = deque()
    waiting = deque(chunks)
    read_s = 0.0
    marks: list[tuple[Mark, Mark, Mark]] = []
    with ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="weights") as readers:
        while waiting or under_way:
            while waiting and free:
                slot, chunk = free.popleft(), waiting.popleft()
                under_way.append((readers.submit(slot.read, chunk), slot, chunk))
            reading, slot, chunk = under_way.popleft()
            read_s += reading.result()
            marks.append(_deliver(slot, chunk, arena))
            free.append(slot)
            report(len(marks) / len(chunks))
    _wait_for(arena.device)
    return Durations(
        read_s * 1000 / min(_NUM_READERS, max(1, len(chunks))),
        sum(elapsed_ms(began, copied) for began, copied, _ in marks),
        sum(elapsed_ms(copied, converted) for _, copied, converted in marks),
    )


def cut(moves: Sequence[Move], chunk_bytes: int) -> list[Chunk]:
    """Neighbours in a file share a chunk, a large tensor has several; no element is cut in two."""
    chunks: list[Chunk] = []
    for move in moves:
        source, itemsize = move.source, move.source.dtype.itemsize
        num_elements, num_done = torch.Size(source.shape).numel(), 0
        while num_done < num_elements:
            offset = source.offset + num_done * itemsize
            if not chunks or not _has_room(chunks[-1], source.file, offset, offset + itemsize, chunk_bytes):
                chunks.append(Chunk(source.file, offset, []))
            chunk = chunks[-1]
            start = offset - chunk.offset
            count = min(num_elements - num_done, (chunk_bytes - start) // itemsize)
            target_offset = move.target.offset + num_done * move.target.dtype.itemsize
            _append(chunk.pieces, Piece(start, source.dtype, Extent(target_offset, (count,), move.target.dtype)))
            num_done += count
    return chunks


def _has_room(chunk: Chunk, file: OpenFile, start: int, stop: int, chunk_bytes: int) -> bool:
    end = chunk.offset + chunk.size_bytes
    return chunk.file is file and 0 <= start - end <= _GAP_BYTES_MAX and stop - chunk.offset <= chunk_bytes


def _append(pieces: list[Piece], piece: Piece) -> None:
    """Pieces that are neighbours here and there are one copy."""
    if pieces:
        last = pieces[-1]
        end = last.target.offset + last.target.size_bytes
        is_same_kind = (last.dtype, last.target.dtype) == (piece.dtype, piece.target.dtype)
        if is_same_kind and (last.stop, end) == (piece.start, piece.target.offset):
            count = last.target.shape[0] + piece.target.shape[0]
            pieces[-1] = last._replace(target=last.target._replace(shape=(count,)))
            return
    pieces.append(piece)


def _deliver(slot: _Slot, chunk: Chunk, arena: torch.Tensor) -> tuple[Mark, Mark, Mark]:
    """Returns when the device began, had copied and had converted; on a GPU all that lies ahead."""
    began = mark(arena.device)
    converted: list[tuple[Piece, torch.Tensor]] = []
    for piece in chunk.pieces:
        stored = slot.memory[piece.start : piece.stop]
        if piece.dtype is piece.target.dtype:
            target = arena[piece.target.offset : piece.target.offset + piece.target.size_bytes]
            target.copy_(stored, non_blocking=True)
        else:
            # A tensor of its own, because a file need not align its tensors to their dtype.
            converted.append((piece, stored.to(arena.device, non_blocking=True, copy=True)))
    slot.copied = mark(arena.device)
    for piece, raw in converted:
        piece.target.view(arena).copy_(raw.view(piece.dtype))
    return began, slot.copied, mark(arena.device)


def mark(device: torch.device) -> Mark:
    """Now, as the device goes."""
    if device.type != "cuda":
        return perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def elapsed_ms(start: Mark, stop: Mark) -> float:
    """Between two moments on one device, once both have come."""
    if isinstance(start, torch.cuda.Event):
        assert isinstance(stop, torch.cuda.Event)
        return float(start.elapsed_time(stop))
    assert isinstance(stop, float)
    return (stop - start) * 1000


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
