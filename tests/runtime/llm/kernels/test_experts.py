import pytest
import torch

from runtime.llm.kernels.experts import mix_experts
from runtime.llm.patches import operations
from runtime.llm.patches.expert_weights import ExpertWeights
from runtime.llm.patches.operations import Activation, ExpertChoice
from tests.fakes.triton_device import DEVICE

TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 4e-2}
"""Relative to the largest. The interpreter cuts bfloat16 off where hardware rounds it."""

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, not hardware's


def make_experts(num_experts: int, width: int, inner: int, dtype: torch.dtype) -> ExpertWeights:
    gate_up, down = torch.randn(num_experts, 2 * inner, width), torch.randn(num_experts, width, inner)
    return ExpertWeights((0.3 * gate_up).to(DEVICE, dtype), (0.3 * down).to(DEVICE, dtype))


def choose(num_tokens: int, num_experts: int, num_chosen: int) -> ExpertChoice:
    shares, indices = torch.rand(num_tokens, num_experts).topk(num_chosen)
    return ExpertChoice(indices.to(DEVICE), shares.to(DEVICE))


def compare(inputs: torch.Tensor, choice: ExpertChoice, experts: ExpertWeights, activation: Activation) -> None:
    expected = operations.mix_experts(inputs, choice, experts, activation).float()
    found = mix_experts(inputs, choice, experts, activation).float()
    assert (found - expected).abs().max() <= TOLERANCES[inputs.dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "num_chosen", "width", "inner"),
    [(1, 4, 2, 64, 32), (5, 3, 3, 40, 20), (40, 5, 2, 36, 33), (70, 3, 2, 130, 16)],
)
def test_the_kernels_compute_what_plain_torch_does(
    num_tokens: int, num_experts: int, num_chosen: int, width: int, inner: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(num_tokens)
    experts = make_experts(num_experts, width, inner, dtype)
    inputs = torch.randn(num_tokens, width).to(DEVICE, dtype)
    compare(inputs, choose(num_tokens, num_experts, num_chosen), experts, "silu")


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_other_activations(activation: Activation) -> None:
    torch.manual_seed(1)
    compare(torch.randn(3, 16).to(DEVICE), choose(3, 4, 2), make_experts(4, 16, 8, torch.float32), activation)


def test_experts_that_are_none_and_experts_that_nobody_has() -> None:
    torch.manual_seed(1)
    experts = make_experts(6, 16, 8, torch.float32)
    indices = torch.tensor([[4, 6], [6, 6], [2, 4], [4, 2]], device=DEVICE)
    choice = ExpertChoice(indices, torch.rand(4, 2).to(DEVICE))
    inputs = torch.randn(4, 16).to(DEVICE)
    compare(inputs, choice, experts, "silu")
    assert mix_experts(inputs, choice, experts, "silu")[1].abs().sum() == 0


def test_one_expert_may_have_all_tokens_and_more_than_are_counted_at_once() -> None:
    torch.manual_seed(1)
    experts = make_experts(2, 16, 8, torch.float32)
    choice = ExpertChoice(torch.ones(1100, 1, dtype=torch.int64, device=DEVICE), torch.rand(1100, 1).to(DEVICE))
    compare(torch.randn(1100, 16).to(DEVICE), choice, experts, "silu")


def test_a_token_has_the_same_bits_whoever_is_beside_it() -> None:
    torch.manual_seed(1)
    experts, choice = make_experts(4, 64, 32, torch.float32), choose(9, 4, 2)
    inputs = torch.randn(9, 64).to(DEVICE)
    together = mix_experts(inputs, choice, experts, "silu")
    alone = mix_experts(inputs[4:5], ExpertChoice(*(part[4:5] for part in choice)), experts, "silu")
    assert torch.equal(together[4:5], alone)


def test_no_tokens_are_no_work() -> None:
    experts = make_experts(2, 16, 8, torch.float32)
    assert mix_experts(torch.empty(0, 16, device=DEVICE), choose(0, 2, 1), experts, "silu").shape == (0, 16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_nothing_waits_for_the_device() -> None:
    experts, choice = make_experts(4, 64, 32, torch.bfloat16), choose(200, 4, 2)
    inputs = torch.randn(200, 64).to(DEVICE, torch.bfloat16)
    torch.cuda.set_sync_debug_mode("error")
    try:
        mix_experts(inputs, choice, experts, "silu")
    finally:
        torch.cuda.set_sync_debug_mode("default")
