import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.architectures import read_decoder_config
from models.checkpoint import Checkpoint, read_checkpoint
from models.folder import ModelFolder
from models.refusal import ModelRefused, RefusalReason
from tests.fakes.safetensors_file import entry, join, split
from tests.fakes.tiny_llm import Architecture, build_tiny_model

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("whole"), "llama")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("sharded"), "llama", max_shard_size="100KB")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tied"), "qwen2")


def copy(directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(directory, tmp_path / "model"))


def read(directory: Path) -> Checkpoint:
    config = read_decoder_config(json.loads((directory / "config.json").read_text()))
    with ModelFolder(directory) as folder:
        return read_checkpoint(folder, folder.list_entries()[0], config)


def refusal(directory: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        read(directory)
    return refused.value


def edit_json(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def append_tensor(path: Path, name: str, dtype: str, shape: list[int], content: bytes) -> None:
    header, data = split(path)
    join(path, header | {name: entry(dtype, shape, len(data), len(data) + len(content))}, data + content)


def rename_tensor(path: Path, old: str, new: str) -> None:
    header, data = split(path)
    header[new] = header.pop(old)
    join(path, header, data)


def test_shards_hold_what_the_whole_file_holds(whole: Path, sharded: Path) -> None:
    one, many = read(whole), read(sharded)
    assert {name: (tensor.entry.dtype, tensor.entry.shape) for name, tensor in one.tensors.items()} == {
        name: (tensor.entry.dtype, tensor.entry.shape) for name, tensor in many.tensors.items()
    }
    assert len({tensor.file for tensor in many.tensors.values()}) > 1
    assert one.warnings == many.warnings == []


def test_no_weights_at_all_are_missing(whole: Path, tmp_path: Path) -> None:
    directory = copy(whole, tmp_path)
    (directory / "model.safetensors").unlink()
    refused = refusal(directory)
    assert (refused.reason, refused.file) == (RefusalReason.MISSING_FILE, "model.safetensors")


def test_a_missing_shard_is_named(sharded: Path, tmp_path: Path) -> None:
    directory = copy(sharded, tmp_path)
    shard = sorted(directory.glob("model-*.safetensors"))[1]
    shard.unlink()
    refused = refusal(directory)
    assert (refused.reason, refused.file) == (RefusalReason.MISSING_FILE, shard.name)


def test_a_tensor_in_two_shards_is_refused(sharded: Path, tmp_path: Path) -> None:
    directory = copy(sharded, tmp_path)
    append_tensor(sorted(directory.glob("model-*.safetensors"))[-1], "model.norm.weight", "F32", [64], bytes(256))
    append_tensor(sorted(directory.glob("model-*.safetensors"))[0], "model.norm.weight", "F32", [64], bytes(256))
    assert refusal(directory).reason == RefusalReason.DUPLICATE_TENSOR


@pytest.mark.parametrize(
    "shard",
    ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "x\0.safetensors", ".safetensors", "pytorch.bin", ""],
)
def test_an_index_that_points_elsewhere_is_refused(sharded: Path, tmp_path: Path, shard: str) -> None:
    directory = copy(sharded, tmp_path)
    shutil.copy(next(sharded.glob("model-*.safetensors")), tmp_path / "other.safetensors")
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = shard
    (directory / INDEX).write_text(json.dumps(index))
    refused = refusal(directory)
    assert (refused.reason, refused.file) == (RefusalReason.UNSAFE_FILE, INDEX)


@pytest.mark.parametrize("weight_map", [None, {}, [], {"a": 1}, "x"])
def test_an_index_without_a_map_is_refused(sharded: Path, tmp_path: Path, weight_map: object) -> None:
    directory = copy(sharded, tmp_path)
    edit_json(directory / INDEX, {"weight_map": weight_map})
    assert refusal(directory).reason == RefusalReason.CORRUPT_WEIGHTS


def test_an_index_that_disagrees_with_its_shards_is_refused(sharded: Path, tmp_path: Path) -> None:
    directory = copy(sharded, tmp_path)
    index = json.loads((directory / INDEX).read_text())
    first, last = sorted(set(index["weight_map"].values()))[0::4]
    moved = next(name for name, shard in index["weight_map"].items() if shard == first)
    index["weight_map"][moved] = last
    (directory / INDEX).write_text(json.dumps(index))
    assert refusal(directory).reason == RefusalReason.CORRUPT_WEIGHTS
    assert moved in refusal(directory).message


def test_a_whole_file_beside_an_index_is_ambiguous(sharded: Path, whole: Path, tmp_path: Path) -> None:
    directory = copy(sharded, tmp_path)
    shutil.copy(whole / "model.safetensors", directory)
    refused = refusal(directory)
    assert (refused.reason, refused.file) == (RefusalReason.CORRUPT_WEIGHTS, INDEX)


def test_a_zero_length_shard_is_refused(sharded: Path, tmp_path: Path) -> None:
    directory = copy(sharded, tmp_path)
    shard = sorted(directory.glob("model-*.safetensors"))[2]
    shard.write_bytes(b"")
    refused = refusal(directory)
    assert (refused.reason, refused.file) == (RefusalReason.CORRUPT_WEIGHTS, shard.name)


@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"]
)
def test_each_expected_tensor_must_be_there(whole: Path, tmp_path: Path, name: str) -> None:
    directory = copy(whole, tmp_path)
    rename_tensor(directory / "model.safetensors", name, "model.layers.0.self_attn.rotary_emb.inv_freq")
    refused = refusal(directory)
    assert refused.reason == RefusalReason.MISSING_TENSOR
    assert name in refused.message


def test_a_shape_that_the_config_does_not_call_for_is_refused(whole: Path, tmp_path: Path) -> None:
    directory = copy(whole, tmp_path)
    edit_json(directory / "config.json", {"intermediate_size": 64})
    refused = refusal(directory)
    assert refused.reason == RefusalReason.WRONG_TENSOR
    assert "[128, 64]" in refused.message


@pytest.mark.parametrize("dtype", ["I32", "U32"])
def test_weights_that_are_not_floats_are_refused(whole: Path, tmp_path: Path, dtype: str) -> None:
    directory = copy(whole, tmp_path)
    header, data = split(directory / "model.safetensors")
    header["model.norm.weight"]["dtype"] = dtype
    join(directory / "model.safetensors", header, data)
    refused = refusal(directory)
    assert refused.reason == RefusalReason.WRONG_TENSOR
    assert dtype in refused.message


def test_a_tensor_that_nobody_expects_is_refused(whole: Path, tmp_path: Path) -> None:
    directory = copy(whole, tmp_path)
    append_tensor(directory / "model.safetensors", "model.layers.0.self_attn.q_proj.bias", "F32", [64], bytes(256))
    refused = refusal(directory)
    assert refused.reason == RefusalReason.UNEXPECTED_TENSOR
    assert "q_proj.bias" in refused.message


def test_stored_rotary_frequencies_are_ignored_with_a_warning(whole: Path, tmp_path: Path) -> None:
    directory = copy(whole, tmp_path)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    append_tensor(directory / "model.safetensors", name, "F32", [8], bytes(32))
    checkpoint = read(directory)
    assert name not in checkpoint.tensors
    assert len(checkpoint.warnings) == 1


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("gpt_neox", "gpt_neox.layers.1.attention.bias"),
        ("gpt_neox", "gpt_neox.layers.1.attention.masked_bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.rotary_emb.inv_freq"),
        ("gpt_bigcode", "transformer.h.0.attn.bias"),
        ("mixtral", "model.layers.0.self_attn.rotary_emb.inv_freq"),
    ],
)
def test_what_old_checkpoints_of_a_family_store_is_ignored_there_only(
    architecture: Architecture, name: str, whole: Path, tmp_path: Path
) -> None:
    directory = build_tiny_model(tmp_path / "old", architecture)
    append_tensor(directory / "model.safetensors", name, "U8", [8], bytes(8))
    assert name not in read(directory).tensors
    elsewhere = copy(whole, tmp_path)
    append_tensor(elsewhere / "model.safetensors", name.replace("layers.0", "others.0"), "U8", [8], bytes(8))
    assert refusal(elsewhere).reason == RefusalReason.UNEXPECTED_TENSOR


@pytest.mark.parametrize("missing", ["experts.3.w2", "experts.0.w1", "gate"])
def test_every_expert_must_be_there(missing: str, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "mixtral")
    name = f"model.layers.1.block_sparse_moe.{missing}.weight"
    rename_tensor(directory / "model.safetensors", name, "model.layers.0.self_attn.rotary_emb.inv_freq")
    refused = refusal(directory)
    assert refused.reason == RefusalReason.MISSING_TENSOR
    assert name in refused.message


def test_experts_in_a_layout_that_is_not_known_are_refused_by_name(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "qwen3_moe")
    stacked = "model.layers.0.mlp.experts.gate_up_proj"
    append_tensor(directory / "model.safetensors", stacked, "F32", [4, 64, 64], bytes(4 * 64 * 64 * 4))
    refused = refusal(directory)
    assert refused.reason == RefusalReason.UNEXPECTED_TENSOR
    assert stacked in refused.message


def test_a_head_that_repeats_the_tied_embedding_is_ignored(tied: Path, tmp_path: Path) -> None:
    directory = copy(tied, tmp_path)
    path = directory / "model.safetensors"
    header, data = split(path)
    begin, end = header["model.embed_tokens.weight"]["data_offsets"]
    append_tensor(path, "lm_head.weight", "F32", [320, 64], data[begin:end])
    checkpoint = read(directory)
    assert "lm_head.weight" not in checkpoint.tensors
    assert "lm_head.weight" in checkpoint.warnings[0]


def test_a_head_that_differs_from_the_tied_embedding_is_refused(tied: Path, tmp_path: Path) -> None:
    directory = copy(tied, tmp_path)
    append_tensor(directory / "model.safetensors", "lm_head.weight", "F32", [320, 64], bytes(320 * 64 * 4))
    refused = refusal(directory)
    assert refused.reason == RefusalReason.UNEXPECTED_TENSOR
    assert "ties" in refused.message
