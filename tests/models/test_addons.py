import hashlib
import json
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.addons import adaptable_layers, inspect_addon
from models.info import AddonInfo, FixedSize, ModelInfo
from models.llm_folder import inspect_llm
from models.refusal import ModelRefused, RefusalReason
from models.sizing import adapter_bytes
from tests.fakes.safetensors_file import join, split
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_llm import ARCHITECTURES, Architecture, build_tiny_model
from tests.fakes.vision_info import vision_info

QUERY = "model.layers.0.self_attn.q_proj"
PREFIX = "base_model.model."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def base_info(base: Path) -> ModelInfo:
    return inspect_llm(base)


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_addon(tmp_path_factory.mktemp("addon"), base, target_modules=["q_proj", "down_proj"])


class World:
    """A copy of an addon that may be spoilt, and its base."""

    def __init__(self, directory: Path, base: Path, info: ModelInfo) -> None:
        self.directory = directory
        self.weights = directory / "adapter_model.safetensors"
        self._base = base
        self._info = info

    def inspect(self, **options: Any) -> AddonInfo:
        return inspect_addon(self.directory, self._base, self._info, **options)

    def refusal(self, **options: Any) -> ModelRefused:
        with pytest.raises(ModelRefused) as refused:
            self.inspect(**options)
        assert str(self.directory) not in refused.value.message
        return refused.value

    def edit_config(self, **changes: Any) -> None:
        path = self.directory / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def rename(self, old: str, new: str) -> None:
        header, data = split(self.weights)
        join(self.weights, {name.replace(old, new): entry for name, entry in header.items()}, data)


@pytest.fixture
def world(plain: Path, base: Path, base_info: ModelInfo, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(plain, tmp_path / "addon")), base, base_info)


def test_an_addon_is_described(world: World) -> None:
    info = world.inspect()
    assert (info.rank, info.scaling, info.dtype, info.base_model) == (4, 2.0, "float32", "a tiny model")
    assert info.target_modules == ["down_proj", "q_proj"]
    # Two layers, of each the two matrices of a square projection and of one from 128 to 64.
    assert info.num_parameters == 2 * 4 * (64 + 64 + 128 + 64)
    assert info.weight_bytes == 4 * info.num_parameters
    assert info.warnings == []
    assert info.file_sha256 == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(world.directory.iterdir())
    }
    assert msgspec.json.decode(msgspec.json.encode(info), type=AddonInfo) == info


def test_weights_whose_hash_is_known_are_not_hashed_again(world: World) -> None:
    assert world.inspect(known_sha256={world.weights.name: "as before"}).file_sha256[world.weights.name] == "as before"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_addon_is_larger_than_what_is_set_aside_for_it(tmp_path: Path, architecture: Architecture) -> None:
    base = build_tiny_model(tmp_path / "base", architecture)
    base_info = inspect_llm(base)
    info = inspect_addon(build_tiny_addon(tmp_path / "addon", base, rank=5), base, base_info)
    assert 4 * info.num_parameters <= adapter_bytes(base_info, "float32", 5) < 8 * info.num_parameters * 3 / 2


def test_experts_routers_embedding_and_head_cannot_be_adapted(tmp_path: Path) -> None:
    layers = adaptable_layers(build_tiny_model(tmp_path, "qwen2_moe"))
    kinds = {layer.partition(".layers.0.")[2] for layer in layers} - {""}
    attention = {f"self_attn.{name}_proj" for name in "qkvo"}
    shared = {f"mlp.shared_expert.{name}_proj" for name in ("gate", "up", "down")}
    assert kinds == attention | shared | {"mlp.shared_expert_gate"}


@pytest.mark.parametrize("module", ["lm_head", "model.embed_tokens", "model.layers.0.mlp.experts.0.up_proj", "score"])
def test_an_addon_to_what_cannot_be_adapted_is_refused_by_its_name(world: World, module: str) -> None:
    world.rename(QUERY, module)
    refused = world.refusal()
    assert refused.reason is RefusalReason.UNSUPPORTED_ADDON
    assert repr(module) in refused.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"{QUERY}.lora_A.weight", f"{QUERY}.lora_magnitude_vector"),
        (f"{QUERY}.lora_A.weight", "model.embed_tokens.lora_embedding_A"),
        (f"{QUERY}.lora_A.weight", "lm_head.weight"),
        (f"{QUERY}.lora_A.weight", f"{QUERY}.lora_A.default.weight"),
    ],
)
def test_tensors_that_are_none_of_the_two_matrices_are_refused(world: World, old: str, new: str) -> None:
    world.rename(old, new)
    assert world.refusal().reason is RefusalReason.UNSUPPORTED_ADDON


def test_names_without_the_prefix_of_peft_are_refused(world: World) -> None:
    world.rename(PREFIX, "model.")
    assert world.refusal().reason is RefusalReason.UNEXPECTED_TENSOR


def test_a_matrix_that_is_missing_or_not_called_for_is_refused(world: World) -> None:
    world.edit_config(target_modules=["q_proj", "k_proj", "down_proj"])
    refused = world.refusal()
    assert refused.reason is RefusalReason.MISSING_TENSOR
    assert "k_proj.lora_A.weight" in refused.message
    world.edit_config(target_modules=["q_proj"])
    refused = world.refusal()
    assert refused.reason is RefusalReason.UNEXPECTED_TENSOR
    assert "down_proj" in refused.message


def test_an_addon_that_names_no_layer_of_the_base_is_refused(world: World) -> None:
    world.edit_config(target_modules=["W_pack"])
    join(world.weights, {}, b"")
    assert world.refusal().reason is RefusalReason.INVALID_CONFIG


@pytest.mark.parametrize("rank", [3, 8])
def test_another_rank_than_the_config_says_is_refused(world: World, rank: int) -> None:
    world.edit_config(r=rank)
    refused = world.refusal()
    assert refused.reason is RefusalReason.WRONG_TENSOR
    assert f"call for [{rank}, 128]" in refused.message


def test_an_addon_to_a_larger_base_is_refused(world: World, tmp_path: Path) -> None:
    larger = build_tiny_model(tmp_path / "larger", "llama", hidden_size=128)
    refused = World(world.directory, larger, inspect_llm(larger)).refusal()
    assert refused.reason is RefusalReason.WRONG_TENSOR
    assert "has shape [64, 4]; rank and base model call for [128, 4]" in refused.message


def test_integers_are_refused(world: World) -> None:
    header, data = split(world.weights)
    for entry in header.values():
        if "dtype" in entry:
            entry["dtype"] = "I32"
    join(world.weights, header, data)
    assert world.refusal().reason is RefusalReason.WRONG_TENSOR


def test_a_rank_beyond_the_bound_is_refused(world: World) -> None:
    assert "up to 3" in world.refusal(rank_max=3).message


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "optimizer.pt"])
def test_formats_that_can_run_code_are_refused(world: World, name: str) -> None:
    (world.directory / name).write_bytes(b"")
    assert (world.refusal().reason, world.refusal().file) == (RefusalReason.PICKLE, name)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_both_files_must_be_there(world: World, name: str) -> None:
    (world.directory / name).unlink()
    assert (world.refusal().reason, world.refusal().file) == (RefusalReason.MISSING_FILE, name)


def test_what_is_ignored_is_said(world: World) -> None:
    world.edit_config(target_modules=["q_proj", "down_proj", "W_pack"])
    (world.directory / "tokenizer.json").write_text("{}")
    about_targets, about_tokenizer = world.inspect().warnings
    assert "W_pack" in about_targets
    assert "tokenizer.json" in about_tokenizer
    assert "tokenizer.json" not in world.inspect().file_sha256


def test_layers_of_a_model_that_reads_images_are_known_by_all_their_names(world: World, base: Path) -> None:
    vision = vision_info(FixedSize(height=4, width=4))
    seeing = World(world.directory, base, msgspec.structs.replace(inspect_llm(base), vision=vision))
    expected = seeing.inspect()
    world.rename(f"{PREFIX}model.", f"{PREFIX}model.language_model.")
    assert seeing.inspect().target_modules == expected.target_modules
    world.rename(f"{PREFIX}model.language_model.layers.0", f"{PREFIX}model.vision_tower.layers.0")
    assert "'vision.layers.0.mlp.down_proj' cannot be adapted" in seeing.refusal().message


def test_spoilt_folders_are_described_or_refused(world: World) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    originals = {path: path.read_bytes() for path in world.directory.iterdir()}
    for _ in range(300):
        for path, content in originals.items():
            path.write_bytes(content)
        path, content = rng.choice(sorted(originals.items()))
        path.write_bytes(_spoil(rng, content))
        # Some are as good as before: a byte of a matrix, a space.
        with suppress(ModelRefused):
            world.inspect()


def _spoil(rng: random.Random, content: bytes) -> bytes:
    begin = rng.randrange(min(len(content), 2000))
    end = min(len(content), begin + rng.randrange(12))
    piece = rng.choice([b"", bytes([rng.randrange(256)]), b"9" * 30, b"[", b'"', b"null", b"-1", b"{}", b"\\u0000"])
    return content[:begin] + piece + content[end:]
