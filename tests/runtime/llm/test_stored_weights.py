from pathlib import Path

import pytest
import torch

from models.info import Fp8Layout
from models.llm_folder import inspect_llm
from runtime.llm.attention_gather import Span
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.fp8 import FP8, quantise_rows, rescale
from runtime.llm.fp8_linear import Fp8Linear
from runtime.llm.loader import build_skeleton, load_weights
from runtime.llm.parallel.cut import Cut
from runtime.llm.stored_weights import read_fp8, read_into, read_weight, stays_fp8
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel
from tests.fakes.tiny_fp8 import dequantise_folder, quantise_folder
from tests.fakes.tiny_llm import Architecture, build_tiny_model

CPU = torch.device("cpu")
LAYOUTS: list[Fp8Layout] = ["row", "block"]
NAME = "model.layers.0.mlp.down_proj.weight"
PROMPT = list(range(3, 40))


def _build(tmp_path: Path, architecture: Architecture, layout: Fp8Layout, dtype: torch.dtype) -> tuple[Path, Path]:
    """The quantised model, and the one that it stands for."""
    stated = str(dtype).removeprefix("torch.")
    # Wider than one block, and not a multiple of it.
    plain = build_tiny_model(tmp_path / "plain", architecture, dtype=stated, hidden_size=160, head_dim=32)
    quantised = quantise_folder(plain, tmp_path / "quantised", layout)
    return quantised, dequantise_folder(quantised, tmp_path / "numbers", layout, dtype)


def _logits(model: TinyModel) -> torch.Tensor:
    return model.logits(PROMPT, [Span(0, len(PROMPT), 0, list(range(1, 2 + len(PROMPT) // BLOCK_SIZE)))])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [("llama", torch.bfloat16), ("llama", torch.float32), ("qwen3", torch.bfloat16), ("mixtral", torch.bfloat16)],
)
def test_a_quantised_model_computes_what_its_numbers_do(
    tmp_path: Path, architecture: Architecture, layout: Fp8Layout, dtype: torch.dtype
) -> None:
    quantised, numbers = _build(tmp_path, architecture, layout, dtype)
    assert torch.equal(_logits(TinyModel(quantised, dtype=dtype)), _logits(TinyModel(numbers, dtype=dtype)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_read_one_by_one_as_they_are_or_as_numbers(tmp_path: Path, layout: Fp8Layout) -> None:
    quantised, numbers = _build(tmp_path, "llama", layout, torch.bfloat16)
    info = inspect_llm(quantised)
    checkpoint, expected = Checkpoint.of_model(quantised, info), Checkpoint.of_model(numbers, inspect_llm(numbers))
    assert torch.equal(read_weight(checkpoint, NAME, info, torch.bfloat16, CPU), expected.tensor(NAME))
    target = torch.empty(160, 128, dtype=torch.bfloat16)
    read_into(checkpoint, NAME, info, target)
    assert torch.equal(target, expected.tensor(NAME))
    assert stays_fp8(checkpoint, NAME, info, (160, 128)) == (layout == "row")
    assert not stays_fp8(checkpoint, "lm_head.weight", info, (320, 160))
    head = read_weight(checkpoint, "lm_head.weight", info, torch.bfloat16, CPU)
    assert head.data_ptr() == checkpoint.tensor("lm_head.weight").data_ptr(), "what is not quantised is a view"
    norm = read_weight(checkpoint, "model.norm.weight", info, torch.bfloat16, CPU)
    assert norm.data_ptr() != checkpoint.tensor("model.norm.weight").data_ptr(), "what is small is copied"
    assert torch.equal(norm, checkpoint.tensor("model.norm.weight"))


def test_a_weight_that_stays_is_what_the_file_holds(tmp_path: Path) -> None:
    quantised, numbers = _build(tmp_path, "llama", "row", torch.float32)
    checkpoint = Checkpoint.of_model(quantised, inspect_llm(quantised))
    weight = read_fp8(checkpoint, NAME, CPU)
    assert (weight.stored.dtype, weight.scale.shape) == (FP8, (160, 1))
    expected = Checkpoint.of_model(numbers, inspect_llm(numbers)).tensor(NAME)
    assert torch.equal(rescale("row", weight.stored.float(), weight.scale), expected)


def _round_inputs(layer: torch.nn.Module, arguments: tuple[torch.Tensor]) -> torch.Tensor:
    """As numbers, what a product of 8-bit floats is given."""
    (inputs,) = arguments
    stored, scale = quantise_rows(inputs.flatten(0, -2))
    return rescale("row", stored.float(), scale).view(inputs.shape)


@pytest.mark.parametrize("enable_patches", [True, False])
def test_where_the_device_multiplies_them_weights_stay_in_8_bits(tmp_path: Path, enable_patches: bool) -> None:
    quantised, _ = _build(tmp_path, "llama", "row", torch.float32)
    model = TinyModel(quantised, enable_patches=enable_patches)
    kept = TinyModel(quantised, enable_patches=enable_patches, keeps_fp8=True)
    layers = [path for path, module in kept.model.named_modules() if isinstance(module, Fp8Linear)]
    assert len(layers) == 2 * (4 if enable_patches else 7)
    for path in layers:
        assert not isinstance(model.model.get_submodule(path), Fp8Linear)
        model.model.get_submodule(path).register_forward_pre_hook(_round_inputs)
    # A number between two 8-bit floats may be rounded the other way after another order of additions.
    assert torch.nn.functional.cosine_similarity(_logits(kept), _logits(model)).mean() > 0.999


def test_blocks_and_experts_are_numbers_on_every_device(tmp_path: Path) -> None:
    cases: list[tuple[Architecture, Fp8Layout]] = [("llama", "block"), ("mixtral", "row")]
    for architecture, layout in cases:
        quantised, _ = _build(tmp_path / architecture, architecture, layout, torch.bfloat16)
        info = inspect_llm(quantised)
        skeleton = build_skeleton(quantised, info)
        loaded = load_weights(skeleton, quantised, info, dtype=torch.bfloat16, device=CPU, keeps_fp8=True)
        dtypes = {parameter.dtype for parameter in loaded.model.parameters()}
        assert FP8 not in dtypes
        has_kept = any(isinstance(module, Fp8Linear) for module in loaded.model.modules())
        assert has_kept == (layout == "row"), "attention of a mixture is multiplied as it is"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cut", [Cut(0, (range(3, 70), range(90, 160))), Cut(1, (range(17, 112),))])
def test_a_part_of_a_weight_is_that_part_of_its_numbers(tmp_path: Path, layout: Fp8Layout, cut: Cut) -> None:
    quantised, numbers = _build(tmp_path, "llama", layout, torch.bfloat16)
    info = inspect_llm(quantised)
    checkpoint, expected = Checkpoint.of_model(quantised, info), Checkpoint.of_model(numbers, inspect_llm(numbers))
    wanted = cut.of(expected.tensor(NAME))
    for source, source_info in ((checkpoint, info), (expected, inspect_llm(numbers))):
        part = read_weight(source, NAME, source_info, torch.bfloat16, CPU, cut)
        assert part.is_contiguous()
        assert torch.equal(part, wanted)
        target = torch.empty(wanted.shape, dtype=torch.bfloat16)
        read_into(source, NAME, source_info, target, cut)
        assert torch.equal(target, wanted)
    if layout == "row":
        kept = read_fp8(checkpoint, NAME, CPU, cut)
        assert not stays_fp8(checkpoint, NAME, info, kept.stored.shape), "a device multiplies sixteens only"
        assert torch.equal((kept.stored.float() * kept.scale).bfloat16(), wanted)
