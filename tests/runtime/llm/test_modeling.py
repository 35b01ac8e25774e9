"""The lean import is tried in a process of its own: in this one transformers is imported already."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from runtime.llm.modeling import import_architecture
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import ARCHITECTURES, build_tiny_model

PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13]

SCRIPT = f"""
import sys
from pathlib import Path
from runtime.llm.modeling import import_architecture, prepare_architectures
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids

prepare_architectures()
assert not [name for name in sys.modules if name.startswith("transformers")], "what is put aside is seen by nobody"

for directory in sys.argv[1:]:
    for enable_patches in (True, False):
        tiny = TinyModel(Path(directory), enable_patches=enable_patches)
        print(token_ids(run(tiny.engine(), [make_request({PROMPT})]))[0])
heavy = {{"transformers", "transformers.modeling_utils", "torch._dynamo", "sympy"}} & set(sys.modules)
heavy |= {{"huggingface_hub.hf_api", "httpx", "jinja2"}} & set(sys.modules)
assert not heavy, heavy

print(import_architecture("llama4", "Llama4ForCausalLM", "ours", len).config_class.__name__)
assert "transformers.modeling_utils" in sys.modules, "what needs more than the stand-ins is imported in full"

import transformers
assert issubclass(transformers.LlamaForCausalLM, transformers.PreTrainedModel)
"""


def test_lean_imports_generate_the_same_tokens_and_leave_transformers_importable(tmp_path: Path) -> None:
    directories = [build_tiny_model(tmp_path / architecture, architecture) for architecture in ARCHITECTURES]
    expected = []
    for directory in directories:
        expected += token_ids(run(TinyModel(directory).engine(), [make_request(PROMPT)])) * 2
    command = [sys.executable, "-c", SCRIPT, *map(str, directories)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [*map(str, expected), "Llama4TextConfig"]


def test_a_class_or_model_that_transformers_does_not_have_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="no Nonesuch"):
        import_architecture("llama", "Nonesuch", "hearth_test", _attend)
    with pytest.raises(ImportError, match="no attention function"):
        import_architecture("bloom", "BloomForCausalLM", "hearth_test", _attend)
    with pytest.raises(ImportError):
        import_architecture("nonesuch", "Nonesuch", "hearth_test", _attend)


def _attend(*arguments: object, **options: object) -> tuple[torch.Tensor, None]:
    return torch.zeros(1), None
