"""The back end of long prompts: by a package's function that is stood in for by one with its contract."""

import logging
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from models.info import AttentionInfo
from runtime.llm import attention_flash
from runtime.llm.attention_flash import PACKAGE, FlashAttention, FlashPlan, find_flash
from runtime.llm.kernel_choice import NO_KERNELS, Kernels, triton_kernels
from tests.fakes.attended_model import AttendedModel, what_it_says
from tests.fakes.attention_requests import LATENT_SHAPE, SHAPE, Requests
from tests.fakes.flash_attention import flash_attn_with_kvcache
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import build_tiny_model
from tests.fakes.triton_device import DEVICE, IS_INTERPRETED

WINDOW = 6
TWO_KINDS = msgspec.structs.replace(SHAPE, sliding_window=WINDOW, full_attention_layers=[1])
LONG = 12
"""What counts as a long prompt here."""
CASES = {
    "prompts behind one another": [(0, 20), (13, 17)],
    "decodes and short chunks ahead": [(12, 1), (30, 3), (5, 11), (0, 13), (8, 30)],
    "others between": [(0, 14), (9, 1), (3, 12), (7, 25), (2, 1)],
}

Flash = Callable[..., torch.Tensor]


@pytest.fixture(autouse=True)
def _short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_flash, "GRAPH_TOKENS_MAX", LONG)


def make_requests(spans: list[tuple[int, int]], function: Flash = flash_attn_with_kvcache) -> Requests:
    backend: Any = partial(FlashAttention, function=function)
    requests = Requests(spans, TWO_KINDS, backend=backend, device=DEVICE)
    for layer in range(TWO_KINDS.num_layers):
        requests.store_computed(layer)
    return requests


@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("case", CASES)
def test_equals_attention_written_out(case: str, softcap: float | None) -> None:
    requests = make_requests(CASES[case])
    query = requests.queries()
    for layer in range(TWO_KINDS.num_layers):
        window = TWO_KINDS.window(layer)
        output = requests.attend(query, layer, window, softcap)
        assert output.is_contiguous()
        assert torch.allclose(output.cpu().double(), requests.expected(query, window, softcap), atol=1e-5)


def test_long_prompts_are_the_packages_and_nothing_else_is() -> None:
    asked: list[int] = []

    def function(query: torch.Tensor, *caches: torch.Tensor, **options: Any) -> torch.Tensor:
        asked.append(len(query))
        return flash_attn_with_kvcache(query, *caches, **options)

    requests = make_requests(CASES["decodes and short chunks ahead"], function)
    requests.attend(requests.queries(), 0, WINDOW)
    assert asked == [43]
    requests = make_requests([(12, 1), (0, LONG)], function)
    requests.attend(requests.queries(), 0, WINDOW)
    assert asked == [43], "a step without any"
    assert not isinstance(requests.backend.plan(requests.spans), FlashPlan)


def test_sinks_and_other_windows_are_gathered() -> None:
    requests = make_requests(CASES["others between"], _never)
    query, sinks = requests.queries(), requests.sinks()
    for window, own_sinks in ((None, sinks), (WINDOW, sinks), (3, None)):
        output = requests.attend(query, 0, window, sinks=own_sinks)
        assert torch.allclose(output.cpu().double(), requests.expected(query, window, sinks=own_sinks), atol=1e-5)


@pytest.mark.skipif(not IS_INTERPRETED, reason="tiny models are on the CPU")
@pytest.mark.parametrize("kernels", [NO_KERNELS, triton_kernels()], ids=["plain layers", "layers by kernels"])
def test_a_model_says_the_same(tmp_path: Path, kernels: Kernels) -> None:
    directory = build_tiny_model(tmp_path, "mistral")
    backend = partial(FlashAttention, function=flash_attn_with_kvcache)
    models = TinyModel(directory), AttendedModel(directory, backend, kernels)
    said, expected = (what_it_says(model, 31, 3, 17) for model in models)
    assert said == expected


class TestFinding:
    @pytest.fixture(autouse=True)
    def _suitable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attention_flash, "_suits", lambda *arguments: True)
        monkeypatch.setattr(attention_flash, "find_spec", lambda name: name)

    def find(self, monkeypatch: pytest.MonkeyPatch, function: Flash, *, is_fp8: bool = False) -> Flash | None:
        package = SimpleNamespace(flash_attn_with_kvcache=function)
        monkeypatch.setattr(attention_flash, "import_module", lambda name: package)
        return find_flash(TWO_KINDS, torch.bfloat16, DEVICE, is_fp8=is_fp8)

    def test_a_package_that_gives_what_torch_gives_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.find(monkeypatch, flash_attn_with_kvcache) is flash_attn_with_kvcache

    def test_8_bit_floats_are_not_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.find(monkeypatch, flash_attn_with_kvcache, is_fp8=True) is None

    @pytest.mark.parametrize("share", [0.9, float("nan")])
    def test_one_that_is_off_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, share: float
    ) -> None:
        def function(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
            return flash_attn_with_kvcache(*tensors, **options) * share

        assert self.find(monkeypatch, function) is None
        assert "is off by" in caplog.text

    @pytest.mark.parametrize("error", [TypeError, RuntimeError, ImportError, AssertionError, OSError])
    def test_one_that_cannot_be_called_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[Exception]
    ) -> None:
        def function(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
            raise error("no kernel image")

        with caplog.at_level(logging.WARNING):
            assert self.find(monkeypatch, function) is None
        assert "no kernel image" in caplog.text


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (SHAPE, torch.bfloat16),
        (SHAPE, torch.float32),
        (LATENT_SHAPE, torch.bfloat16),
        (msgspec.structs.replace(SHAPE, value_head_size=16), torch.bfloat16),
    ],
)
def test_a_cpu_and_other_shapes_are_not_for_it(shape: AttentionInfo, dtype: torch.dtype) -> None:
    assert find_flash(shape, dtype, torch.device("cpu"), is_fp8=False) is None


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED or find_spec(PACKAGE) is None, reason="no GPU with flash-attn 3")
def test_the_package_itself_gives_what_torch_gives() -> None:
    shape = msgspec.structs.replace(SHAPE, num_heads=32, num_kv_heads=8, head_size=128, value_head_size=128)
    assert find_flash(shape, torch.bfloat16, DEVICE, is_fp8=False) is not None


def _never(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
    raise AssertionError("another's affair")
