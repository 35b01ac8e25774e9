"""What a side of the engine benchmark says of a job."""

import pytest

from benchmarks.engine_side import Job, Side, TokenTimes, figures, peak_rss_bytes, run_job


def test_decoding_is_from_the_last_first_token_to_the_first_last_one() -> None:
    times = [[11.0, 12.0, 13.0, 14.0], [12.0, 13.0, 14.0, 15.0]]

    found = figures(times, started_at=10.0, num_prompt_tokens=20)

    assert found["first_token_s"] == 2.0
    assert found["prompt_tokens_per_s"] == 10.0
    assert found["decode_tokens_per_s"] == 2.0
    assert found["total_s"] == 5.0


def test_where_some_end_before_others_begin_all_later_tokens_count() -> None:
    times = [[11.0, 12.0], [13.0, 14.0]]

    assert figures(times, started_at=10.0, num_prompt_tokens=2)["decode_tokens_per_s"] == 1.0


def test_a_prompt_alone_decodes_nothing() -> None:
    assert figures([[10.5]], started_at=10.0, num_prompt_tokens=5)["decode_tokens_per_s"] == 0


def test_equal_seeds_are_equal_prompts() -> None:
    seen: list[list[list[int]]] = []

    def generate(prompts: list[list[int]], num_new_tokens: int) -> TokenTimes:
        seen.append(prompts)
        return [[float("inf")] * num_new_tokens for _ in prompts]

    side = Side(generate, {"first_token_at": 0.0, "load_ms": {}})
    for seed in (1, 1, 2):
        run_job(side, Job(num_requests=2, num_prompt_tokens=3, num_new_tokens=1, seed=seed))

    assert seen[0] == seen[1] != seen[2]
    assert [len(prompt) for prompt in seen[0]] == [3, 3]


def test_a_side_that_gives_other_than_was_asked_is_not_measured() -> None:
    side = Side(lambda prompts, num_new_tokens: [[1.0]], {"first_token_at": 0.0, "load_ms": {}})

    with pytest.raises(AssertionError, match="not the tokens asked for"):
        run_job(side, Job(num_requests=1, num_prompt_tokens=1, num_new_tokens=2, seed=0))


def test_the_peak_is_this_program_s() -> None:
    assert 2**20 < peak_rss_bytes() < 2**40
