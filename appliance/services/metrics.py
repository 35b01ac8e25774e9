"""What Prometheus is told. One registry of our own; labels take only names that the server knows, so it stays small."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from runtime.message import Used
from runtime.protocol import Usage

CONTENT_TYPE = CONTENT_TYPE_LATEST
_LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counted per request or per finished choice, never per token."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._http_requests = Counter(
            "hearth_http_requests", "HTTP requests by route and status", ["route", "status"], registry=self.registry
        )
        self._http_seconds = Histogram(
            "hearth_http_request_seconds",
            "Time to the last byte",
            ["route"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._generations = Counter(
            "hearth_generations",
            "Generations and other tasks by deployment and outcome: completed, a code of an error, or aborted",
            ["deployment", "outcome"],
            registry=self.registry,
        )
        self._tokens = Counter(
            "hearth_tokens", "Tokens: prompt, cached, completion", ["deployment", "kind"], registry=self.registry
        )
        self._audio_seconds = Counter(
            "hearth_audio_seconds", "Seconds of sound that was listened to", ["deployment"], registry=self.registry
        )
        self._images = Counter("hearth_images", "Pictures that were made", ["deployment"], registry=self.registry)
        self._first_token_seconds = Histogram(
            "hearth_first_token_seconds",
            "Time from the request's arrival to its first token (TTFT)",
            ["deployment"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        tasks = Gauge("hearth_event_loop_tasks", "Tasks of the daemon's event loop", registry=self.registry)
        tasks.set_function(_num_tasks)
        self.in_flight = Gauge("hearth_generations_in_flight", "Generations that run or wait", registry=self.registry)

    def count_http(self, route: str, status: int, seconds: float) -> None:
        self._http_requests.labels(route, str(status)).inc()
        self._http_seconds.labels(route).observe(seconds)

    def count_first_token(self, deployment: str, seconds: float) -> None:
        self._first_token_seconds.labels(deployment).observe(seconds)

    def count_generation(self, deployment: str, outcome: str) -> None:
        self._generations.labels(deployment, outcome).inc()

    def count_tokens(self, deployment: str, usage: Usage) -> None:
        self._tokens.labels(deployment, "prompt").inc(usage.num_prompt_tokens)
        self._tokens.labels(deployment, "cached").inc(usage.num_cached_tokens)
        self._tokens.labels(deployment, "completion").inc(usage.num_completion_tokens)

    def count_used(self, deployment: str, used: Used) -> None:
        """By a piece of an answer that is no generation."""
        if used.num_prompt_tokens:
            self._tokens.labels(deployment, "prompt").inc(used.num_prompt_tokens)
        if used.audio_ms:
            self._audio_seconds.labels(deployment).inc(used.audio_ms / 1000)
        if used.num_images:
            self._images.labels(deployment).inc(used.num_images)

    def observe_looks(self, count: Callable[[], float], last_s: Callable[[], float]) -> None:
        """How often the supervisor has looked at the fleet, and how long its last look took; asked when rendered."""
        Gauge("hearth_supervisor_looks", "Looks at the fleet", registry=self.registry).set_function(count)
        Gauge("hearth_supervisor_look_seconds", "The last look", registry=self.registry).set_function(last_s)

    def observe_audit_losses(self, count: Callable[[], float]) -> None:
        gauge = Gauge("hearth_audit_losses", "What this start found missing of the audit log", registry=self.registry)
        gauge.set_function(count)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)


def _num_tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # no loop runs where this is asked
        return 0
