import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.embedding_folder import check_embedding_config
from models.fp8 import describe_fp8, is_quantisable, quantization_config, read_layout, scale_shapes, stays_fp8
from models.info import Fp8Info, Fp8Layout, ModelInfo
from models.llm_folder import inspect_llm
from models.refusal import ModelRefused, RefusalReason
from tests.fakes.tiny_fp8 import BLOCKS, ROWS, edit_config, quantise_folder
from tests.fakes.tiny_llm import build_tiny_model

LAYOUTS: list[Fp8Layout] = ["row", "block"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("plain"), "llama", dtype="bfloat16")


@pytest.fixture(scope="module")
def rows(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantise_folder(plain, tmp_path_factory.mktemp("rows") / "model", "row")


def refusal(directory: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        inspect_llm(directory)
    return refused.value


def with_group(**changes: Any) -> dict[str, Any]:
    return {**ROWS, "config_groups": {"group_0": {**ROWS["config_groups"]["group_0"], **changes}}}


WEIGHTS = ROWS["config_groups"]["group_0"]["weights"]


def test_two_layouts_are_read_and_what_we_write_is_one_of_them() -> None:
    assert read_layout({}) is None
    assert read_layout({"quantization_config": ROWS}) == "row"
    assert read_layout({"quantization_config": with_group(input_activations=None)}) == "row"
    static = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
    assert read_layout({"quantization_config": with_group(input_activations=static)}) == "row"
    older = {name: value for name, value in ROWS.items() if name != "quant_method"}
    assert read_layout({"compression_config": older}) == "row"
    assert read_layout({"quantization_config": BLOCKS}) == "block"
    assert read_layout({"quantization_config": quantization_config(["lm_head"])}) == "row"


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "fbgemm_fp8"}, "fbgemm_fp8"),
        ({"format": "float-quantized"}, "None"),
        ("fp8", "no object"),
        ({**BLOCKS, "weight_block_size": [64, 128]}, r"\[64, 128\]"),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "weight_block_size None"),
        ({**BLOCKS, "fmt": "e5m2"}, "e5m2"),
        ({**ROWS, "format": "int-quantized"}, "int-quantized"),
        ({**ROWS, "kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
        ({**ROWS, "config_groups": {}}, "config_groups"),
        ({**ROWS, "config_groups": {"group_0": {}}}, "how weights are stored"),
        (with_group(weights={**WEIGHTS, "strategy": "tensor"}), "tensor"),
        (with_group(weights={**WEIGHTS, "num_bits": 4}), "8-bit floats by channel"),
        (with_group(weights={**WEIGHTS, "symmetric": False}), "symmetric"),
        (with_group(input_activations={"num_bits": 8, "type": "int", "strategy": "token"}), "activations"),
        (with_group(input_activations={"num_bits": 8, "type": "float", "strategy": "group"}), "activations"),
    ],
)
def test_every_other_way_is_refused_by_name(stated: object, named: str) -> None:
    with pytest.raises(ModelRefused, match=named) as refused:
        read_layout({"quantization_config": stated})
    assert refused.value.reason == RefusalReason.UNSUPPORTED_QUANTIZATION


def test_products_of_layers_are_quantised_and_nothing_else() -> None:
    assert is_quantisable("model.layers.3.self_attn.q_proj.weight", (64, 64))
    assert is_quantisable("model.layers.3.mlp.experts.7.gate_proj.weight", (64, 64))
    assert is_quantisable("model.layers.3.mlp.shared_expert.gate_proj.weight", (64, 64))
    for name in ("lm_head", "model.embed_tokens", "model.layers.3.mlp.gate", "model.layers.3.mlp.shared_expert_gate"):
        assert not is_quantisable(f"{name}.weight", (64, 64))
    assert not is_quantisable("model.layers.3.input_layernorm.weight", (64,))
    assert not is_quantisable("model.layers.3.self_attn.q_proj.bias", (64,))


def test_experts_and_odd_shapes_and_blocks_are_converted_while_loading() -> None:
    assert stays_fp8("row", "model.layers.3.self_attn.q_proj.weight", (48, 64))
    assert not stays_fp8("row", "model.layers.3.self_attn.q_proj.weight", (48, 60))
    assert not stays_fp8("row", "model.layers.3.mlp.experts.7.gate_proj.weight", (64, 64))
    assert not stays_fp8("row", "model.layers.3.self_attn.kv_b_proj.weight", (64, 64))
    assert not stays_fp8("block", "model.layers.3.self_attn.q_proj.weight", (128, 128))


def test_scales_are_one_for_each_row_or_block() -> None:
    assert scale_shapes("row", (300, 200)) == [(300, 1), (300,)]
    assert scale_shapes("block", (300, 200)) == [(3, 2)]
    weights = {"layers.0.q_proj.weight": (32, 64), "layers.0.k_proj.weight": (10, 64)}
    assert describe_fp8("row", weights) == Fp8Info(
        layout="row", num_parameters=42 * 64, num_staying_parameters=32 * 64, num_staying_rows=32
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16])
def test_a_quantised_folder_is_the_same_model_in_fewer_bytes(
    plain: Path, tmp_path: Path, layout: Fp8Layout, scale_dtype: torch.dtype
) -> None:
    known = inspect_llm(plain)
    found = inspect_llm(quantise_folder(plain, tmp_path / "model", layout, scale_dtype=scale_dtype))
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert (found.num_parameters, found.dtype) == (known.num_parameters, "bfloat16")
    assert found.weight_bytes == sum(tensor.nbytes for tensor in stored.values())
    assert found.fp8 is not None
    assert found.fp8.layout == layout
    assert found.fp8.num_parameters == sum(each.numel() for each in stored.values() if each.dtype.itemsize == 1)
    assert found.fp8.num_staying_parameters == (found.fp8.num_parameters if layout == "row" else 0)
    assert known.fp8 is None


def test_layers_that_were_left_out_and_fixed_scales_of_activations_are_taken(rows: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(rows, tmp_path / "model"))
    tensors = load_file(directory / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = torch.zeros(tensors[name].shape, dtype=torch.bfloat16)
    del tensors[f"{name}_scale"]
    tensors["model.layers.1.mlp.down_proj.input_scale"] = torch.ones(1)
    save_file(tensors, directory / "model.safetensors")
    found = _fp8(inspect_llm(directory))
    assert found.num_parameters == _fp8(inspect_llm(rows)).num_parameters - tensors[name].numel()


def test_scales_must_be_there_and_fit_and_belong_to_something(rows: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    cases: list[tuple[dict[str, torch.Tensor | None], RefusalReason]] = [
        ({f"{name}_scale": None}, RefusalReason.MISSING_TENSOR),
        ({f"{name}_scale": torch.ones(3, 1)}, RefusalReason.WRONG_TENSOR),
        ({f"{name}_scale": torch.ones(64, 1, dtype=torch.int32)}, RefusalReason.WRONG_TENSOR),
        ({"model.norm.weight_scale": torch.ones(1)}, RefusalReason.UNEXPECTED_TENSOR),
        ({name: torch.zeros(64, 128, dtype=torch.bfloat16)}, RefusalReason.UNEXPECTED_TENSOR),
        ({"lm_head.weight": torch.zeros(320, 64).to(torch.float8_e4m3fn)}, RefusalReason.WRONG_TENSOR),
    ]
    for number, (changes, reason) in enumerate(cases):
        directory = Path(shutil.copytree(rows, tmp_path / str(number)))
        tensors = load_file(directory / "model.safetensors") | changes
        save_file({key: each for key, each in tensors.items() if each is not None}, directory / "model.safetensors")
        assert refusal(directory).reason == reason, changes


def test_eight_bit_weights_without_a_word_in_the_config_are_refused(rows: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(rows, tmp_path / "model"))
    edit_config(directory, quantization_config=None)
    assert refusal(directory).reason in {RefusalReason.UNEXPECTED_TENSOR, RefusalReason.WRONG_TENSOR}


def test_a_config_may_speak_of_quantisation_where_nothing_is_quantised(plain: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(plain, tmp_path / "model"))
    edit_config(directory, quantization_config=ROWS)
    assert inspect_llm(directory).fp8 is None


def test_models_that_make_vectors_are_refused_with_quantised_weights(rows: Path) -> None:
    with pytest.raises(ModelRefused, match="quantised") as refused:
        check_embedding_config(json.loads((rows / "config.json").read_text()))
    assert refused.value.reason == RefusalReason.UNSUPPORTED_QUANTIZATION


def _fp8(info: ModelInfo) -> Fp8Info:
    assert info.fp8 is not None
    return info.fp8
