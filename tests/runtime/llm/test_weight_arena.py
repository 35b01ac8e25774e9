from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runtime.llm.checkpoint import Checkpoint
from runtime.llm.weight_arena import ALIGNMENT, ArenaPlan, Wanted, plan_arena

MERGED = [("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    shapes = {
        "a.norm.weight": (7,),
        "a.q_proj.weight": (6, 5),
        "a.k_proj.weight": (3, 5),
        "a.v_proj.weight": (3, 5),
        "a.q_proj.bias": (6,),
        "a.k_proj.bias": (3,),
        "a.v_proj.bias": (3,),
        "b.gate_proj.weight": (4, 5),
        "b.up_proj.weight": (4, 5),
        "b.0.down.weight": (2, 3),
        "b.1.down.weight": (2, 3),
    }
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    save_file({name: tensors[name] for name in list(tensors)[:4]}, tmp_path / "1.safetensors")
    save_file({name: tensors[name] for name in list(tensors)[4:]}, tmp_path / "2.safetensors")
    return Checkpoint(tmp_path, ["1.safetensors", "2.safetensors"])


def _as_stored(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> dict[str, Wanted]:
    names = [name for name in checkpoint.names if not name.startswith("b.0") and not name.startswith("b.1")]
    wanted = {name: Wanted(checkpoint.locate(name).shape, dtype, (name,)) for name in names}
    return wanted | {"b.downs": Wanted((2, 2, 3), dtype, ("b.0.down.weight", "b.1.down.weight"))}


def _check_integrity(plan: ArenaPlan, wanted: dict[str, Wanted]) -> None:
    assert plan.extents.keys() == wanted.keys()
    extents = sorted(set(plan.extents.values()))
    for before, after in pairwise(extents):
        assert before.offset + before.size_bytes <= after.offset
    assert extents[-1].offset + extents[-1].size_bytes == plan.size_bytes
    positions = [(move.source.file.descriptor, move.source.offset) for move in plan.moves]
    assert positions == sorted(positions)
    assert len(plan.moves) == len({stored for each in wanted.values() for stored in each.stored})


def test_what_is_merged_is_adjacent_and_all_else_is_aligned(checkpoint: Checkpoint) -> None:
    wanted = _as_stored(checkpoint)
    plan = plan_arena(wanted, checkpoint, MERGED)
    _check_integrity(plan, wanted)
    place = plan.extents
    for names in (
        ["a.q_proj.weight", "a.k_proj.weight", "a.v_proj.weight"],
        ["a.q_proj.bias", "a.k_proj.bias", "a.v_proj.bias"],
        ["b.gate_proj.weight", "b.up_proj.weight"],
    ):
        assert place[names[0]].offset % ALIGNMENT == 0
        for before, after in pairwise(names):
            assert place[before].offset + place[before].size_bytes == place[after].offset
    assert place["a.norm.weight"].offset % ALIGNMENT == 0
    assert place["b.downs"].offset % ALIGNMENT == 0


def test_experts_follow_one_another_in_their_parameter(checkpoint: Checkpoint) -> None:
    plan = plan_arena(_as_stored(checkpoint), checkpoint)
    downs = plan.extents["b.downs"]
    targets = {move.name: move.target.offset for move in plan.moves}
    assert [targets["b.0.down.weight"], targets["b.1.down.weight"]] == [downs.offset, downs.offset + 24]


def test_the_order_is_that_of_the_files(checkpoint: Checkpoint) -> None:
    wanted = _as_stored(checkpoint)
    plan = plan_arena(wanted, checkpoint)
    _check_integrity(plan, wanted)
    assert [move.target.offset for move in plan.moves] == sorted(move.target.offset for move in plan.moves)


def test_rows_of_different_dtype_or_length_stay_apart(checkpoint: Checkpoint) -> None:
    wanted = _as_stored(checkpoint)
    wanted["a.k_proj.weight"] = wanted["a.k_proj.weight"]._replace(dtype=torch.bfloat16)
    del wanted["b.up_proj.weight"]
    plan = plan_arena(wanted, checkpoint, MERGED)
    _check_integrity(plan, wanted)
    for name in ("a.q_proj.weight", "a.k_proj.weight", "a.v_proj.weight", "b.gate_proj.weight"):
        assert plan.extents[name].offset % ALIGNMENT == 0


def test_tied_parameters_are_one(checkpoint: Checkpoint) -> None:
    wanted = _as_stored(checkpoint)
    wanted["head.weight"] = wanted["a.norm.weight"]
    plan = plan_arena(wanted, checkpoint, MERGED)
    _check_integrity(plan, wanted)
    assert plan.extents["head.weight"] == plan.extents["a.norm.weight"]


def test_views_have_the_shape_and_dtype_that_was_asked_for(checkpoint: Checkpoint) -> None:
    plan = plan_arena(_as_stored(checkpoint, torch.bfloat16), checkpoint, MERGED)
    arena = torch.zeros(plan.size_bytes, dtype=torch.uint8)
    for extent in plan.extents.values():
        view = extent.view(arena)
        assert (view.shape, view.dtype) == (extent.shape, torch.bfloat16)
        assert not view.any(), "no two overlap"
        view.fill_(1.0)
