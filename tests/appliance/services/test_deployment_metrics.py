import pytest

from appliance.services.deployment_metrics import deployment_metrics
from appliance.services.loads import AnswerTimes, LoadWindow


def times(latency_s: float, first_token_s: float, num_generated_tokens: int) -> AnswerTimes:
    return AnswerTimes(
        latency_s=latency_s,
        first_token_s=first_token_s,
        num_generated_tokens=num_generated_tokens,
        prefill_queue_s=0.25,
    )


def test_sums_become_rates_shares_and_averages_in_milliseconds() -> None:
    window = LoadWindow(
        span_s=10.0,
        concurrent_requests=1.5,
        num_begun=4,
        num_answered=2,
        num_failed=1,
        num_generated_tokens=30,
        num_prompt_tokens=100,
        num_cached_tokens=25,
        num_drafted_tokens=10,
        num_accepted_tokens=4,
        samples=[times(2.0, 1.0, 11), times(4.0, 1.0, 21)],
    )
    found = deployment_metrics(window, num_ready=2, replica_share=1.0)
    assert found == pytest.approx(
        {
            "replica_count": 2.0,
            "load": 0.5,
            "concurrent_requests": 1.5,
            "requests_total": 4.0,
            "requests_per_second": 0.4,
            "requests_error_rate": 1 / 3,
            "tokens_per_second": 13.0,
            "tokens_generated_per_second": 3.0,
            "prompt_cache_hit_rate": 0.25,
            "speculative_hit_total": 0.4,
            "tokens_prompt_per_request": 50.0,
            "tokens_generated_per_request": 16.0,
            "latency": 3000.0,
            "first_token_latency": 1000.0,
            "prefill_queue_latency": 250.0,
            "generation_queue_latency": 0.0,
            "generation_per_token_latency": 125.0,
        }
    )


def test_what_was_not_measured_is_left_out() -> None:
    assert deployment_metrics(LoadWindow(span_s=60.0), num_ready=0, replica_share=0.0) == {
        "replica_count": 0.0,
        "concurrent_requests": 0.0,
        "requests_total": 0.0,
        "requests_per_second": 0.0,
        "tokens_per_second": 0.0,
        "tokens_generated_per_second": 0.0,
    }


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    window = LoadWindow(span_s=60.0, num_answered=1, samples=[times(1.0, 1.0, 1)])
    assert "generation_per_token_latency" not in deployment_metrics(window, num_ready=1, replica_share=0.0)
