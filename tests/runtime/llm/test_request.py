from hypothesis import given
from hypothesis import strategies as st

from runtime.llm.request import Request
from runtime.submission import SamplingParams
from tests.fakes.scripted_runner import make_request

tokens = st.lists(st.integers(0, 100), max_size=10)


@given(tokens, tokens, st.integers(0, 22), st.integers(0, 22))
def test_token_ids_slices_prompt_and_output_as_one(prompt: list[int], output: list[int], start: int, num: int) -> None:
    request = make_request(prompt)
    request.output_token_ids = output
    assert request.num_tokens == len(prompt) + len(output)
    assert request.token_ids(start, start + num) == (prompt + output)[start : start + num]


def test_missing_tokens_tell_prefill_from_decode_without_a_phase() -> None:
    request = make_request([1, 2, 3])
    assert request.num_missing_tokens == 3
    request.num_computed_tokens = 3
    request.output_token_ids.append(4)
    assert request.num_missing_tokens == 1


def test_tokens_are_counted_where_a_penalty_looks_at_them() -> None:
    penalised = SamplingParams(repetition_penalty=1.5)
    request = Request(request_id="r", prompt_token_ids=[4, 2, 4], sampling=penalised, max_tokens=1)
    assert request.token_counts is not None
    assert request.token_counts.prompt_token_ids.tolist() == [2, 4]
    assert make_request([1]).token_counts is None
