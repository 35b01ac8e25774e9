from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from runtime.quantiser.shards import INDEX, PlannedTensor, plan_shards, write_index, write_shard

TENSORS = {
    "a": torch.randn(3, 5),
    "a_scale": torch.randn(3, 1),
    "b": torch.randn(7).to(torch.bfloat16),
    "c": torch.randn(2, 9).to(torch.float8_e4m3fn),
}
GROUPS = [["a", "a_scale"], ["b"], ["c"]]


def _planned() -> list[dict[str, PlannedTensor]]:
    return [{name: PlannedTensor(TENSORS[name].dtype, tuple(TENSORS[name].shape)) for name in own} for own in GROUPS]


def _make(group: Mapping[str, PlannedTensor]) -> dict[str, torch.Tensor]:
    return {name: TENSORS[name] for name in group}


def test_what_is_made_together_stays_together_and_a_shard_is_no_larger_than_it_must() -> None:
    names = [[name for group in shard.groups for name in group] for shard in plan_shards(iter(_planned()), 40)]
    assert names == [["a", "a_scale"], ["b", "c"]]
    (whole,) = plan_shards(iter(_planned()))
    assert (whole.name, whole.num_bytes) == ("model-00001-of-00001.safetensors", 60 + 12 + 14 + 18)


def test_shards_are_read_by_safetensors(tmp_path: Path) -> None:
    shards = plan_shards(iter(_planned()), 40)
    told: list[int] = []
    for shard in shards:
        write_shard(tmp_path, shard, _make, told.append)
    write_index(tmp_path, shards)
    assert sum(told) == sum(shard.num_bytes for shard in shards)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(shard.name for shard in shards), INDEX]
    found = {name: tensor for shard in shards for name, tensor in load_file(tmp_path / shard.name).items()}
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name].float(), TENSORS[name].float()) for name in TENSORS)
    assert all(found[name].dtype == TENSORS[name].dtype for name in TENSORS)


def test_a_shard_that_is_finished_is_not_made_again_and_half_of_one_is_never_there(tmp_path: Path) -> None:
    first, second = plan_shards(iter(_planned()), 40)
    write_shard(tmp_path, first, _make, lambda num_bytes: None)

    def fail(group: Mapping[str, PlannedTensor]) -> dict[str, torch.Tensor]:
        if "c" in group:
            raise OSError("the disk is full")
        return _make(group)

    told: list[int] = []
    write_shard(tmp_path, first, fail, told.append)
    assert told == [first.num_bytes]
    with pytest.raises(OSError, match="full"):
        write_shard(tmp_path, second, fail, told.append)
    assert not (tmp_path / second.name).exists()
    write_shard(tmp_path, second, _make, told.append)
    assert load_file(tmp_path / second.name).keys() == {"b", "c"}
