"""How long a request took, and where: the figures that clients find in headers and in `perf_metrics`.

Durations are seconds. Of several choices the slowest counts, for they run side by side; counts are of all together.
"""

import socket
import time

import msgspec

from appliance.api.data.usage import UsageInfo
from appliance.services.inference import Answer
from runtime.protocol import Performance
from runtime.submission import SamplingParams

HEADER_PREFIX = "fireworks-"
OLDER_NAMES = {"speculation-prompt-matched-tokens": "speculation-matched-tokens"}
"""Headers that some clients look for under another name."""

Figure = int | float | str | dict[str, int | float]

BACKEND_HOST = socket.gethostname()


class Stopwatch:
    """Started with the request."""

    def __init__(self, answer: Answer) -> None:
        self._deployment = answer.deployment.name
        self._sampling_options = _sampling_options(answer.submit.sampling, answer.submit.max_tokens)
        self._started = time.monotonic()
        self._first_token_s: float | None = None
        self._worker: Performance | None = None

    def note_output(self) -> None:
        if self._first_token_s is None:
            self._first_token_s = time.monotonic() - self._started

    def add(self, performance: Performance | None) -> None:
        """What the worker says of one choice, when it has finished."""
        if performance is not None:
            self._worker = performance if self._worker is None else _together(self._worker, performance)

    def figures(self, usage: UsageInfo) -> dict[str, Figure]:
        """All that is known once the last choice has finished."""
        figures: dict[str, Figure] = {
            "prompt-tokens": usage.prompt_tokens,
            "cached-prompt-tokens": usage.prompt_tokens_details.cached_tokens,
            "server-time-to-first-token": self._first_token_s or 0.0,
            "server-processing-time": time.monotonic() - self._started,
            "deployment": self._deployment,
            "backend-host": BACKEND_HOST,
            "sampling-options": self._sampling_options,
        }
        if self._worker is not None:
            figures |= _worker_figures(self._worker)
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in figures.items()}


def to_headers(figures: dict[str, Figure]) -> dict[str, str]:
    named = figures | {OLDER_NAMES[name]: value for name, value in figures.items() if name in OLDER_NAMES}
    return {HEADER_PREFIX + name: _text(value) for name, value in named.items()}


def _worker_figures(worker: Performance) -> dict[str, Figure]:
    figures: dict[str, Figure] = {
        "num-concurrent-requests": worker.num_concurrent_requests,
        "tokenizer-queue-duration": worker.tokenizer_queue_s,
        "tokenizer-duration": worker.tokenizer_s,
        "prefill-queue-duration": worker.prefill_queue_s,
        "prefill-duration": worker.prefill_s,
        "generation-queue-duration": worker.generation_queue_s,
        "generation-duration": worker.generation_s,
    }
    if worker.num_predicted_tokens:
        figures["speculation-prompt-tokens"] = worker.num_predicted_tokens
        figures["speculation-prompt-matched-tokens"] = worker.num_predicted_accepted
    if worker.num_drafted_tokens:
        figures["speculation-generated-tokens"] = worker.num_drafted_tokens
        figures["speculation-acceptance"] = worker.num_accepted_tokens / worker.num_drafted_tokens
    return figures


def _together(one: Performance, other: Performance) -> Performance:
    return Performance(
        **{
            name: (max if name.endswith("_s") or name == "num_concurrent_requests" else _add)(
                getattr(one, name), getattr(other, name)
            )
            for name in Performance.__struct_fields__
        }
    )


def _add(one: int, other: int) -> int:
    return one + other


def _sampling_options(sampling: SamplingParams, max_tokens: int | None) -> dict[str, int | float]:
    """What was applied: the request's own values and the defaults. Fits into a header, so without biases."""
    options: dict[str, int | float] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
    }
    said = msgspec.to_builtins(sampling)
    options |= {name: value for name, value in said.items() if name != "logit_bias"}
    return options if max_tokens is None else options | {"max_tokens": max_tokens}


def _text(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
