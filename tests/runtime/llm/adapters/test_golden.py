"""Addons in the engine against models that peft has merged them into: the same tokens, whatever the batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from runtime.llm.kernel_choice import NO_KERNELS, Kernels
from runtime.llm.kernels import lora
from runtime.llm.request import Adapter, Request
from tests.fakes.tiny_addon import SPREAD, build_tiny_addon
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import ARCHITECTURES, VOCAB_SIZE, Architecture, build_tiny_model
from tests.fakes.tiny_vlm import VisionFamily, build_tiny_vlm
from tests.fakes.triton_device import IS_INTERPRETED

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft asks for it

NUM_NEW_TOKENS = 6
PROMPT_LENGTHS = [1, 2 * BLOCK_SIZE + 5]
MARGIN_MIN = 1e-3
"""As in the golden tests of the models themselves."""

_TARGETS: dict[Architecture, list[str]] = {
    "deepseek_v2": ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]
}
"""Where it is not every linear layer: peft takes the `gate_proj` of DeepSeek's dense layers for that of its experts."""

_SAVED_BY_PEFT: dict[str, dict[str, Any]] = {
    "all linear layers": {"target_modules": "all-linear", "r": 3, "lora_alpha": 6},
    "root-scaled, some layers": {
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "r": 8,
        "lora_alpha": 4,
        "use_rslora": True,
        "layers_to_transform": [1],
    },
    "not everywhere": {"target_modules": ["k_proj", "mlp.up_proj"], "exclude_modules": ["layers.0.mlp.up_proj"]},
}


class Golden:
    """One model, and addons to it by name; "" is none."""

    def __init__(
        self,
        directory: Path,
        addons: dict[str, Path],
        model_class: Any = AutoModelForCausalLM,
        kernels: Kernels = NO_KERNELS,
    ) -> None:
        self._model_class = model_class
        self._directory = directory
        self._addons = addons
        self.tiny = TinyModel(directory, kernels=kernels)
        self.adapters: dict[str, Adapter | None] = {name: self.tiny.placed(path) for name, path in addons.items()}
        self.adapters[""] = None
        generator = torch.Generator().manual_seed(5)
        self.prompts = [
            torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS
        ]
        self.expected = {name: self._expect(name) for name in self.adapters}

    def requests(self, call: str = "first") -> list[Request]:
        """Every prompt with every adapter, neighbours with different ones."""
        return [
            make_request(prompt, request_id=f"{call} {name} {i}", max_tokens=NUM_NEW_TOKENS, adapter=adapter)
            for i, prompt in enumerate(self.prompts)
            for name, adapter in self.adapters.items()
        ]

    @property
    def all_expected(self) -> list[list[int]]:
        return [self.expected[name][i] for i in range(len(self.prompts)) for name in self.adapters]

    def _expect(self, name: str) -> list[list[int]]:
        model = self._model_class.from_pretrained(self._directory, dtype=torch.float32, attn_implementation="eager")
        if name:
            model = PeftModel.from_pretrained(model, self._addons[name]).merge_and_unload()
        return [_generate(model, prompt) for prompt in self.prompts]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return _build(request.param, tmp_path_factory)


def _build(
    architecture: Architecture, tmp_path_factory: pytest.TempPathFactory, kernels: Kernels = NO_KERNELS
) -> Golden:
    folder = tmp_path_factory.mktemp("golden")
    base = build_tiny_model(folder / "base", architecture)
    targets = _TARGETS.get(architecture)
    addons = {
        f"rank {rank}": build_tiny_addon(folder / f"{rank}", base, seed=rank, rank=rank, target_modules=targets)
        for rank in (2, 5)
    }
    return Golden(base, addons, kernels=kernels)


def test_each_adapter_and_none_alone(golden: Golden) -> None:
    for request, expected in zip(golden.requests(), golden.all_expected, strict=True):
        assert token_ids(run(golden.tiny.engine(), [request])) == [expected]
    assert len({str(tokens) for tokens in golden.expected.values()}) == len(golden.adapters)


def test_all_in_one_batch_in_chunks_again_from_the_cache_and_preempted(golden: Golden) -> None:
    engine = golden.tiny.engine(max_batch_tokens=13)
    for call in ("first", "second"):
        assert token_ids(run(engine, golden.requests(call), steps_between=1)) == golden.all_expected
    requests = golden.requests()[::-1]
    engine = golden.tiny.engine(num_blocks=8)
    assert token_ids(run(engine, requests)) == golden.all_expected[::-1]
    assert sum(request.num_preemptions for request in requests) > 0


@pytest.mark.skipif(not IS_INTERPRETED, reason="the tiny engine computes on the CPU")
@pytest.mark.parametrize("architecture", ["llama", "deepseek_v2"])
def test_kernels_give_the_same_tokens(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> None:
    golden = _build(architecture, tmp_path_factory, Kernels(lora=lora))
    assert token_ids(run(golden.tiny.engine(), golden.requests())) == golden.all_expected


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_addons_that_peft_saved(tmp_path: Path, architecture: Architecture) -> None:
    base = build_tiny_model(tmp_path / "base", architecture)
    addons = {}
    for seed, (name, settings) in enumerate(_SAVED_BY_PEFT.items()):
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", **settings)
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if "lora_" in parameter_name:
                    parameter.copy_(SPREAD * torch.randn(parameter.shape, generator=generator))
        addons[name] = tmp_path / name
        model.save_pretrained(str(addons[name]))
    golden = Golden(base, addons)
    assert token_ids(run(golden.tiny.engine(), golden.requests())) == golden.all_expected


@pytest.mark.parametrize(
    ("family", "targets"), [("llava", ["gate_proj", "down_proj"]), ("qwen2_vl", ["q_proj", "o_proj", "up_proj"])]
)
def test_addons_to_models_that_read_images(tmp_path: Path, family: VisionFamily, targets: list[str]) -> None:
    base = build_tiny_vlm(tmp_path / "base", family)
    addon = build_tiny_addon(tmp_path / "addon", base, target_modules=targets, text_model="model.language_model.")
    golden = Golden(base, {"addon": addon}, AutoModelForImageTextToText)
    assert token_ids(run(golden.tiny.engine(), golden.requests())) == golden.all_expected


def _generate(model: Any, prompt: list[int]) -> list[int]:
    input_ids = torch.tensor([prompt])
    generated = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=NUM_NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best_two = torch.stack(generated.logits).topk(2).values
    assert (best_two[..., 0] - best_two[..., 1]).min() > MARGIN_MIN, "choose another seed"
    return [int(token_id) for token_id in generated.sequences[0, len(prompt) :]]
