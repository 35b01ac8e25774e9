import pytest
import torch

from runtime.llm.sampling.greatest import greatest_tokens
from tests.fakes.native import needs_native

INF = float("inf")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("vocab_size", [1, 15, 16, 17, 2048, 151_936])
@pytest.mark.parametrize("num_rows", [1, 5])
def test_it_is_where_the_greatest_is(num_rows: int, vocab_size: int, dtype: torch.dtype) -> None:
    logits = torch.randn(num_rows, vocab_size).to(dtype)
    tokens = greatest_tokens(logits)
    assert tokens.dtype is torch.int64
    assert torch.equal(logits.gather(1, tokens[:, None])[:, 0], logits.amax(dim=-1))


def test_of_a_part_of_each_row_the_rest_does_not_count() -> None:
    logits = torch.randn(3, 100).bfloat16()
    logits[:, 70] = 50
    assert greatest_tokens(logits).tolist() == [70] * 3
    logits[:, 30] = 40
    assert greatest_tokens(logits[:, :70]).tolist() == [30] * 3
    assert greatest_tokens(logits[::2, :70].t().contiguous().t()).tolist() == [30] * 2


@needs_native
@pytest.mark.parametrize("first", range(40))
def test_of_several_it_is_the_first(first: int) -> None:
    logits = torch.full((2, 40), -3.0).bfloat16()
    logits[:, first:] = 2
    assert greatest_tokens(logits).tolist() == [first] * 2


@needs_native
def test_neither_infinities_nor_what_is_no_number_are_in_the_way() -> None:
    logits = torch.tensor([[-INF] * 20, [-INF] * 19 + [-3e38], [1, INF] * 10, [float("nan"), 1] * 10, [-0.0, 0.0] * 10])
    assert greatest_tokens(logits.bfloat16()).tolist() == [0, 19, 1, 1, 0]
