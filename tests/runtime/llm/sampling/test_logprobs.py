import pytest
import torch

from runtime.llm.sampling.logprobs import TokenLogprobs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_come_with_their_logprob_and_the_best_ones(dtype: torch.dtype) -> None:
    torch.manual_seed(6)
    logits = torch.randn(4, 50).to(dtype)
    expected = logits.float().log_softmax(dim=-1)
    rows, token_ids, nums_top = [2, 0, 2], [7, 49, 0], [3, 0, 5]
    found = TokenLogprobs.of(logits[rows], torch.tensor(token_ids), 5).tell(token_ids, nums_top)
    assert [token.token_id for token in found] == token_ids
    for token, row, token_id, num_logprobs in zip(found, rows, token_ids, nums_top, strict=True):
        best = expected[row].topk(num_logprobs)
        assert token.logprob == pytest.approx(float(expected[row, token_id]), abs=1e-5)
        assert [value for _, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [value for _, value in token.top] == sorted((value for _, value in token.top), reverse=True)
        assert all(expected[row, top_id] == pytest.approx(value, abs=1e-5) for top_id, value in token.top)


def test_logprobs_of_all_tokens_make_up_one() -> None:
    (token,) = TokenLogprobs.of(torch.randn(1, 30), torch.tensor([3]), 30).tell([3], [30])
    assert sum(torch.tensor([value for _, value in token.top]).exp()) == pytest.approx(1.0, abs=1e-5)
