import pytest
import torch

from runtime.llm.sampling.logprobs import AskedToken, with_logprobs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_come_with_their_logprob_and_the_best_ones(dtype: torch.dtype) -> None:
    torch.manual_seed(6)
    logits = torch.randn(4, 50).to(dtype)
    expected = logits.float().log_softmax(dim=-1)
    asked = [AskedToken(2, 7, 3), AskedToken(0, 49, 0), AskedToken(2, 0, 5)]
    found = with_logprobs(logits, asked)
    assert [token.token_id for token in found] == [7, 49, 0]
    for token, (row, token_id, num_logprobs) in zip(found, asked, strict=True):
        best = expected[row].topk(num_logprobs)
        assert token.logprob == pytest.approx(float(expected[row, token_id]), abs=1e-5)
        assert [value for _, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [value for _, value in token.top] == sorted((value for _, value in token.top), reverse=True)
        assert all(expected[row, top_id] == pytest.approx(value, abs=1e-5) for top_id, value in token.top)


def test_logprobs_of_all_tokens_make_up_one() -> None:
    (token,) = with_logprobs(torch.randn(1, 30), [AskedToken(0, 3, 30)])
    assert sum(torch.tensor([value for _, value in token.top]).exp()) == pytest.approx(1.0, abs=1e-5)
