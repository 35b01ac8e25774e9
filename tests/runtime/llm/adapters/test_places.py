from pathlib import Path

import pytest
import torch

from models.addons import adaptable_layers
from models.llm_folder import inspect_llm
from runtime.llm.adapters.places import find_places
from runtime.llm.loader import build_skeleton, load_weights
from tests.fakes.tiny_llm import Architecture, build_tiny_model


@pytest.mark.parametrize("enable_patches", [True, False])
@pytest.mark.parametrize("architecture", ["qwen2", "phi3", "mixtral", "gpt_neox"])
def test_a_layer_is_where_its_weights_are(tmp_path: Path, architecture: Architecture, enable_patches: bool) -> None:
    info = inspect_llm(build_tiny_model(tmp_path, architecture))
    skeleton = build_skeleton(tmp_path, info)
    shapes = adaptable_layers(tmp_path)
    load = {"dtype": torch.float32, "device": torch.device("cpu")}
    model = load_weights(skeleton, tmp_path, info, **load, enable_patches=enable_patches).model  # type: ignore[arg-type]
    originals = load_weights(build_skeleton(tmp_path, info), tmp_path, info, **load, enable_patches=False).model  # type: ignore[arg-type]
    places = find_places(model, shapes)
    assert places.keys() == shapes.keys()
    for path, (num_rows, num_columns) in shapes.items():
        linear, start, stop = places[path]
        inputs = torch.randn(3, num_columns, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            outputs, expected = linear(inputs), originals.get_submodule(path)(inputs)
        assert stop - start == num_rows
        assert torch.allclose(outputs[:, start:stop], expected, atol=1e-5)


def test_a_path_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    info = inspect_llm(build_tiny_model(tmp_path, "llama"))
    with pytest.raises(KeyError):
        find_places(build_skeleton(tmp_path, info), ["model.layers.0.self_attn.q_proj"])
