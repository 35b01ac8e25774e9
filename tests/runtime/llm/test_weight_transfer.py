import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runtime.llm.checkpoint import Checkpoint
from runtime.llm.weight_arena import ArenaPlan, Wanted, plan_arena
from runtime.llm.weight_transfer import cut, elapsed_ms, mark, transfer

CPU = torch.device("cpu")
NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=NEEDS_GPU)]


def _save(directory: Path) -> dict[str, torch.Tensor]:
    """Two files, in which dtypes alternate and one tensor is of no element."""
    tensors = {
        "even": torch.randn(64, 32),
        "half": torch.randn(9, 7).to(torch.bfloat16),
        "odd": torch.randint(0, 9, (33,), dtype=torch.int8),
        "large": torch.randn(500, 70).to(torch.bfloat16),
        "nothing": torch.empty(0, 4),
        "one": torch.randn(1),
    }
    save_file({name: tensors[name] for name in ("even", "half", "odd")}, directory / "1.safetensors")
    save_file({name: tensors[name] for name in ("large", "nothing", "one")}, directory / "2.safetensors")
    return tensors


def _plan(checkpoint: Checkpoint, dtypes: dict[str, torch.dtype]) -> ArenaPlan:
    wanted = {name: Wanted(checkpoint.locate(name).shape, dtype, (name,)) for name, dtype in dtypes.items()}
    return plan_arena(wanted, checkpoint)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_an_arena_holds_what_the_files_do_in_the_dtype_that_is_served(
    dtype: torch.dtype | None, device: torch.device, tmp_path: Path
) -> None:
    tensors = _save(tmp_path)
    checkpoint = Checkpoint(tmp_path, ["1.safetensors", "2.safetensors"])
    plan = _plan(checkpoint, {name: dtype or tensor.dtype for name, tensor in tensors.items()})
    arena = torch.empty(plan.size_bytes, dtype=torch.uint8, device=device)
    fractions: list[float] = []
    durations = transfer(plan.moves, arena, fractions.append)
    for name, tensor in tensors.items():
        found = plan.extents[name].view(arena).cpu()
        assert torch.equal(found, tensor.to(dtype or tensor.dtype)), name
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert min(durations) >= 0.0


@pytest.mark.parametrize("chunk_bytes", [8, 100, 4096, 1 << 20])
def test_chunks_hold_every_element_once_and_whole(chunk_bytes: int, tmp_path: Path) -> None:
    tensors = _save(tmp_path)
    checkpoint = Checkpoint(tmp_path, ["1.safetensors", "2.safetensors"])
    plan = _plan(checkpoint, dict.fromkeys(tensors, torch.float32))
    chunks = cut(plan.moves, chunk_bytes)
    assert all(0 < chunk.size_bytes <= chunk_bytes for chunk in chunks)
    pieces = [piece for chunk in chunks for piece in chunk.pieces]
    assert sum(piece.target.shape[0] for piece in pieces) == sum(tensor.numel() for tensor in tensors.values())
    arena = torch.empty(plan.size_bytes, dtype=torch.uint8)
    for chunk in chunks:
        read = bytearray(os.pread(chunk.file.descriptor, chunk.size_bytes, chunk.offset))
        for piece in chunk.pieces:
            count = piece.target.shape[0]
            stored = torch.frombuffer(bytearray(read[piece.start : piece.stop]), dtype=piece.dtype, count=count)
            piece.target.view(arena).copy_(stored)
    assert all(torch.equal(plan.extents[name].view(arena), tensors[name].float()) for name in tensors)


def test_neighbours_here_and_there_are_one_copy(tmp_path: Path) -> None:
    tensors = {name: torch.randn(64) for name in "abcd"}  # 256 bytes each, so that none is moved to be aligned
    save_file(tensors, tmp_path / "w.safetensors")
    checkpoint = Checkpoint(tmp_path, ["w.safetensors"])
    alike = _plan(checkpoint, dict.fromkeys(tensors, torch.float32))
    (chunk,) = cut(alike.moves, 1 << 20)
    assert [piece.target.shape for piece in chunk.pieces] == [(256,)]
    without = _plan(checkpoint, dict.fromkeys("abd", torch.float32))
    (chunk,) = cut(without.moves, 1 << 20)
    assert [piece.target.shape for piece in chunk.pieces] == [(128,), (64,)], "a small gap is read over"


def test_a_file_that_has_become_shorter_is_an_error(tmp_path: Path) -> None:
    save_file({"a": torch.randn(1000)}, tmp_path / "w.safetensors")
    checkpoint = Checkpoint(tmp_path, ["w.safetensors"])
    plan = _plan(checkpoint, {"a": torch.float32})
    os.truncate(tmp_path / "w.safetensors", 2000)
    with pytest.raises(OSError, match="shorter"):
        transfer(plan.moves, torch.empty(plan.size_bytes, dtype=torch.uint8))


def test_time_on_a_device_goes_forward() -> None:
    began = mark(CPU)
    assert elapsed_ms(began, mark(CPU)) >= 0.0
