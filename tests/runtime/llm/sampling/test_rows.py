import numpy as np

from runtime.llm.request import Request
from runtime.llm.sampling.rows import SampledRow
from runtime.submission import SamplingParams


def test_a_row_is_the_requests_own_and_counts_what_came_since() -> None:
    sampling = SamplingParams(frequency_penalty=1.0)
    request = Request(request_id="r", prompt_token_ids=[1, 2], sampling=sampling, seed=9, max_tokens=5, num_logprobs=3)
    request.output_token_ids += [4, 4]
    request.mirostat_mu = 2.5
    mask = np.zeros(1, dtype=np.int32)
    row = SampledRow.of(request, [7, 8], mask)
    assert (row.params, row.seed, row.num_logprobs, row.mirostat_mu) == (sampling, 9, 3, 2.5)
    assert row.position == 6
    assert row.mask is mask
    assert row.draft_token_ids == [7, 8]
    assert row.token_counts is not None
    assert row.token_counts.output().counts.tolist() == [2]
    request.output_token_ids.append(4)
    again = SampledRow.of(request).token_counts
    assert again is not None
    assert again.output().counts.tolist() == [3]


def test_a_row_says_which_rules_it_has() -> None:
    def row(mask: bool = False, **params: float | dict[int, float]) -> SampledRow:
        sampling = SamplingParams(**params)  # type: ignore[arg-type]
        return SampledRow(sampling, 0, 0, None, np.zeros(1, dtype=np.int32) if mask else None)

    adjusting = [
        row(mask=True),
        row(logit_bias={1: 1.0}),
        row(repetition_penalty=1.1),
        row(frequency_penalty=-0.1),
        row(presence_penalty=0.1),
    ]
    assert all(row.adjusts_logits for row in adjusting)
    assert not row(temperature=0.5, top_p=0.5, top_k=3, min_p=0.1, typical_p=0.5, mirostat_target=1.0).adjusts_logits
    assert row(mirostat_target=0.0).is_mirostat
    assert not row(mirostat_target=1.0, temperature=0.0).is_mirostat
    assert row(temperature=0.0).is_greedy
