"""All layers in one call against the same model computed operation by operation, and in float32."""

from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.llm.attention_gather import Span
from runtime.llm.attention_native import NativeStep
from runtime.llm.forward import Forward, TokenRow
from runtime.llm.kernel_choice import NO_KERNELS, Kernels
from runtime.llm.native.layers import NativeLayers
from runtime.llm.native.operations import NATIVE
from runtime.llm.request import Request
from tests.fakes.native import needs_native
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import VOCAB_SIZE, Architecture, build_tiny_model

pytestmark = [needs_native, pytest.mark.usefixtures("instructions")]

WINDOWED = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
CASES: dict[str, tuple[Architecture, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen3 half windowed": ("qwen3", WINDOWED),
    "mistral": ("mistral", {}),
}


def load(directory: Path, kernels: Kernels = Kernels(NATIVE), dtype: torch.dtype = torch.bfloat16) -> TinyModel:  # noqa: B008
    tiny = TinyModel(directory, dtype=dtype, kernels=kernels)
    tiny.packing.advance(60)
    return tiny


@pytest.fixture(scope="module", params=CASES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture, settings = CASES[request.param]
    return build_tiny_model(tmp_path_factory.mktemp("layer"), architecture, **settings)


@pytest.fixture
def num_computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each call that was one."""
    counts: list[int] = []
    compute = NativeLayers.compute

    def count(self: NativeLayers, hidden_states: torch.Tensor, *others: Any) -> Any:
        computed = compute(self, hidden_states, *others)
        if computed is not None:
            counts.append(hidden_states.shape[1])
        return computed

    monkeypatch.setattr(NativeLayers, "compute", count)
    return counts


def prompt_of(num_tokens: int) -> list[int]:
    return torch.randint(3, VOCAB_SIZE, (num_tokens,), generator=torch.Generator().manual_seed(2)).tolist()


def logits(tiny: TinyModel, num_tokens: int) -> torch.Tensor:
    return tiny.logits(prompt_of(num_tokens), [Span(0, num_tokens, 0, list(range(1, 10)))]).float()


def are_alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """But for roundings, of which those of bfloat16 add up."""
    return bool((found - expected).norm() < 0.1 * expected.norm())


def test_it_is_as_near_to_float32_as_torch_in_bfloat16_is(directory: Path, num_computed: list[int]) -> None:
    exact = logits(load(directory, NO_KERNELS, torch.float32), 30)
    plain = logits(load(directory, NO_KERNELS), 30)
    assert not num_computed
    found = logits(load(directory), 30)
    assert num_computed == [30]
    assert (found - exact).norm() <= 1.2 * (plain - exact).norm()


def test_operation_by_operation_it_is_the_same_to_the_bit(
    directory: Path, num_computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = load(directory)
    whole = logits(tiny, 70)
    assert num_computed == [70]
    monkeypatch.setattr(NativeLayers, "compute", lambda *arguments: None)
    assert torch.equal(logits(tiny, 70), whole)


@pytest.mark.parametrize("asked", [[], [4], [19], [0, 3, 19, 20, 28], [20, 21], [*range(28)], [*range(29)]], ids=str)
def test_rows_that_nobody_asks_for_are_left_out_of_the_last_layer_alone(
    directory: Path, num_computed: list[int], asked: list[int]
) -> None:
    tiny, prompt = load(directory), prompt_of(31)
    rows = [TokenRow(prompt[:20], 0, [1, 2, 3]), TokenRow(prompt[20:29], 0, [6, 4])]
    then = [TokenRow([prompt[29]], 20, [1, 2, 3]), TokenRow([prompt[30]], 9, [6, 4])]
    whole, cut = Forward(tiny.model, tiny.attention()), Forward(tiny.model, tiny.attention())
    everywhere = whole.compute(rows).logits([*range(29)])
    computed = cut.compute(rows, asked_rows=asked)
    assert torch.equal(computed.logits(asked), everywhere[asked])
    others = [row for row in range(29) if row not in asked]
    assert (computed.logits(others) != everywhere[others]).any(dim=1).all()
    assert torch.equal(cut.compute(then).logits([0, 1]), whole.compute(then).logits([0, 1])), "their keys are there"
    assert num_computed == [29, 29, 2, 2]


def test_what_a_request_gets_is_the_same_whatever_is_computed_with_it(directory: Path) -> None:
    tiny = load(directory)

    def requests() -> list[Request]:
        lengths = [1, 7, 8, 9, 29]
        return [make_request(prompt_of(length), request_id=str(length), num_logprobs=3) for length in lengths]

    alone = [run(tiny.engine(), [request])[0] for request in requests()]
    together = run(tiny.engine(max_batch_tokens=11), requests(), steps_between=2)
    for one, other in zip(alone, together, strict=True):
        assert [(output.token_id, output.top) for output in one] == [(output.token_id, output.top) for output in other]


def test_a_prompts_logprobs_are_asked_for_beside_what_is_sampled(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = load(directory)

    def prompt_logprobs() -> list[float | None]:
        request = make_request(prompt_of(30), num_logprobs=1, max_tokens=2)
        request.num_prompt_logprobs = 5
        (outputs,) = run(tiny.engine(max_batch_tokens=11), [request])
        told = [token.logprob for token in outputs[0].prompt_logprobs]
        return told + [output.logprob for output in outputs]

    found = prompt_logprobs()
    monkeypatch.setattr(NativeStep, "ask", lambda *arguments: None)
    assert len(found) == 7
    assert prompt_logprobs() == found


def test_weights_that_are_not_packed_are_computed_otherwise(directory: Path, num_computed: list[int]) -> None:
    unpacked = TinyModel(directory, dtype=torch.bfloat16, kernels=Kernels(NATIVE))
    before = logits(unpacked, 20)
    assert not num_computed
    unpacked.packing.advance(60)
    assert are_alike(logits(unpacked, 20), before)
    assert num_computed == [20]


def test_steps_with_an_addon_are_computed_otherwise(tmp_path: Path, num_computed: list[int]) -> None:
    base = build_tiny_model(tmp_path / "base", "llama")
    addon = build_tiny_addon(tmp_path / "addon", base, rank=4)
    tiny, plain = load(base), load(base, NO_KERNELS)
    prompt, spans = prompt_of(20), [Span(0, 20, 0, [1, 2, 3])]
    expected = plain.logits(prompt, spans, plain.adapter(addon))
    found = tiny.logits(prompt, spans, tiny.adapter(addon))
    assert not num_computed
    assert are_alike(found, expected)
    assert not are_alike(tiny.logits(prompt, spans), found)
    assert num_computed == [20]


def test_experts_and_gates_of_other_widths_have_none(tmp_path: Path, num_computed: list[int]) -> None:
    for name, architecture, settings in (
        ("experts", "mixtral", {}),
        ("gelu", "gemma", {}),
        ("narrow", "llama", {"intermediate_size": 96}),
    ):
        directory = build_tiny_model(tmp_path / name, architecture, **settings)  # type: ignore[arg-type]
        exact = logits(load(directory, NO_KERNELS, torch.float32), 20)
        found = logits(load(directory), 20)
        assert not num_computed
        assert torch.nn.functional.cosine_similarity(found, exact).min() > 0.98


def test_the_engine_says_what_it_says_in_plain_torch(directory: Path) -> None:
    """Greedy tokens in bfloat16 may differ where two are equally good; most prompts have no such place."""
    native, plain = load(directory), load(directory, NO_KERNELS)
    answers = [token_ids(run(tiny.engine(), [make_request(prompt_of(n), request_id=str(n)) for n in range(5, 25)]))
               for tiny in (native, plain)]  # fmt: skip
    same = sum(one == other for one, other in zip(*answers, strict=True))
    assert same >= 12
