"""A deployment's load as the map of names to numbers that the API gives out. Pure.

Times are milliseconds and averages over the window, like the rates. A number that nothing was measured for is left out.
"""

from collections.abc import Callable, Sequence

from appliance.services.loads import AnswerTimes, LoadWindow


def deployment_metrics(window: LoadWindow, num_ready: int, replica_share: float) -> dict[str, float]:
    """`replica_share` as `orchestrator/scaling.py` has it: how many replicas the work would fill."""
    num_ended = window.num_answered + window.num_failed
    num_tokens = window.num_prompt_tokens + window.num_generated_tokens
    found = {
        "replica_count": float(num_ready),
        "concurrent_requests": window.concurrent_requests,
        "requests_total": float(window.num_begun),
        "requests_per_second": window.num_begun / window.span_s,
        "tokens_per_second": num_tokens / window.span_s,
        "tokens_generated_per_second": window.num_generated_tokens / window.span_s,
        "load": _ratio(replica_share, num_ready),
        "requests_error_rate": _ratio(window.num_failed, num_ended),
        "prompt_cache_hit_rate": _ratio(window.num_cached_tokens, window.num_prompt_tokens),
        "speculative_hit_total": _ratio(window.num_accepted_tokens, window.num_drafted_tokens),
        "tokens_prompt_per_request": _ratio(window.num_prompt_tokens, window.num_answered),
        "tokens_generated_per_request": _average(window.samples, lambda sample: sample.num_generated_tokens),
        "latency": _average_ms(window.samples, lambda sample: sample.latency_s),
        "first_token_latency": _average_ms(window.samples, lambda sample: sample.first_token_s),
        "prefill_queue_latency": _average_ms(window.samples, lambda sample: sample.prefill_queue_s),
        "generation_queue_latency": _average_ms(window.samples, lambda sample: sample.generation_queue_s),
        "generation_per_token_latency": _average_ms(
            [sample for sample in window.samples if sample.num_generated_tokens > 1], _per_token_s
        ),
    }
    return {name: value for name, value in found.items() if value is not None}


def _per_token_s(sample: AnswerTimes) -> float:
    """Between tokens: the first one's time is its own metric."""
    return (sample.latency_s - sample.first_token_s) / (sample.num_generated_tokens - 1)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _average(samples: Sequence[AnswerTimes], read: Callable[[AnswerTimes], float]) -> float | None:
    return sum(map(read, samples)) / len(samples) if samples else None


def _average_ms(samples: Sequence[AnswerTimes], read: Callable[[AnswerTimes], float]) -> float | None:
    average_s = _average(samples, read)
    return None if average_s is None else average_s * 1000
