"""One account's deployments in Prometheus' text format, under the names of the platform that we speak for.

Their "totals" are rates over the last minute and their histograms count that minute, so all are gauges. Computed
when asked for, at most twice a minute for each account; stored nowhere.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.domain import Deployment
from appliance.errors import Code, HearthError
from appliance.orchestrator.views import ReplicaView
from appliance.services.loads import AnswerTimes, Loads, LoadWindow
from runtime.protocol import Heartbeat

SPAN_S = 60.0
REFRESH_S = 30.0
SCRAPES_PER_MINUTE = 6
LABELS = ["base_model", "deployment", "deployment_account", "deployment_id"]
LATENCY_BUCKETS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class Seen(NamedTuple):
    """One deployment in the last minute."""

    deployment: Deployment
    window: LoadWindow
    replicas: Sequence[ReplicaView]
    max_num_requests: int
    """Of one replica."""

    @property
    def beats(self) -> list[Heartbeat]:
        """The latest of each replica."""
        return [replica.heartbeat for replica in self.replicas if replica.heartbeat is not None]

    @property
    def labels(self) -> list[str]:
        return [self.deployment.base_model, self.deployment.name, self.deployment.account_id, self.deployment.id]


ListDeployments = Callable[[str], Iterable[tuple[Deployment, Sequence[ReplicaView]]]]
"""Of an account."""
StatusOf = Callable[[Code], int]
"""The HTTP status that stands for an error."""

_RATES: list[tuple[str, str, Callable[[LoadWindow], int]]] = [
    ("request_counter_total", "Requests per second", lambda window: window.num_begun),
    ("tokens_cached_prompt_total", "Cached prompt tokens per second", lambda window: window.num_cached_tokens),
    ("tokens_prompt_total", "Prompt tokens per second", lambda window: window.num_prompt_tokens),
]


def _per_token_s(times: AnswerTimes) -> float:
    return (times.latency_s - times.first_token_s) / max(1, times.num_generated_tokens - 1)


_HISTOGRAMS: list[tuple[str, str, Sequence[float], Callable[[AnswerTimes], float]]] = [
    (
        "latency_generation_per_token_ms",
        "Time per generated token after the first",
        LATENCY_BUCKETS_MS,
        lambda times: 1000 * _per_token_s(times),
    ),
    (
        "latency_generation_queue_ms",
        "Waiting while generating",
        LATENCY_BUCKETS_MS,
        lambda times: 1000 * times.generation_queue_s,
    ),
    ("latency_overall_ms", "From arrival to the end", LATENCY_BUCKETS_MS, lambda times: 1000 * times.latency_s),
    (
        "latency_to_first_token_ms",
        "From arrival to the first token",
        LATENCY_BUCKETS_MS,
        lambda times: 1000 * times.first_token_s,
    ),
    ("latency_prefill_ms", "Computing the prompt", LATENCY_BUCKETS_MS, lambda times: 1000 * times.prefill_s),
    (
        "latency_prefill_queue_ms",
        "Waiting before the prompt is computed",
        LATENCY_BUCKETS_MS,
        lambda times: 1000 * times.prefill_queue_s,
    ),
    ("tokens_generated_per_request", "Generated tokens", TOKEN_BUCKETS, lambda times: times.num_generated_tokens),
    ("tokens_prompt_per_request", "Prompt tokens", TOKEN_BUCKETS, lambda times: times.num_prompt_tokens),
]


class AccountMetrics:
    def __init__(
        self,
        loads: Loads,
        list_deployments: ListDeployments,
        status_of: StatusOf,
        max_num_requests: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loads = loads
        self._list_deployments = list_deployments
        self._status_of = status_of
        self._max_num_requests = max_num_requests
        self._clock = clock
        self._pages: dict[str, tuple[float, bytes]] = {}
        self._scrapes: dict[str, deque[float]] = {}

    def render(self, account_id: str) -> bytes:
        """Raises `rate_limited` for the seventh time within a minute."""
        now = self._clock()
        self._count_scrape(account_id, now)
        made_at, page = self._pages.get(account_id, (-math.inf, b""))
        if now - made_at >= REFRESH_S:
            page = self._make(account_id)
            self._pages[account_id] = (now, page)
        return page

    def _count_scrape(self, account_id: str, now: float) -> None:
        scrapes = self._scrapes.setdefault(account_id, deque(maxlen=SCRAPES_PER_MINUTE))
        if len(scrapes) == SCRAPES_PER_MINUTE and now - scrapes[0] < SPAN_S:
            raise HearthError(
                Code.RATE_LIMITED,
                f"metrics are given {SCRAPES_PER_MINUTE} times a minute; they are new every {REFRESH_S:g} s",
                retry_after_s=scrapes[0] + SPAN_S - now,
            )
        scrapes.append(now)

    def _make(self, account_id: str) -> bytes:
        seen = [
            Seen(deployment, self._loads.window(deployment.name, SPAN_S), replicas, self._max_num_requests)
            for deployment, replicas in self._list_deployments(account_id)
        ]
        registry = CollectorRegistry()
        registry.register(_Collected(seen, self._status_of))
        return generate_latest(registry)


def _per_second(count: Callable[[LoadWindow], int]) -> Callable[[Seen], float]:
    return lambda one: count(one.window) / SPAN_S


class _Collected(Collector):
    def __init__(self, seen: Sequence[Seen], status_of: StatusOf) -> None:
        self._seen = seen
        self._status_of = status_of

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, meaning, count in _RATES:
            yield self._gauge(f"{name}:sum_by_deployment", meaning, _per_second(count))
        yield self._errors()
        for name, meaning, buckets, measure in _HISTOGRAMS:
            yield self._histogram(f"{name}_bucket:sum_by_deployment", meaning, buckets, measure)
        yield self._gauge("generator_kv_blocks_fraction:avg_by_deployment", "KV blocks in use", _kv_fraction)
        yield self._gauge(
            "generator_kv_slots_fraction:avg_by_deployment", "Places in the batch in use", _slots_fraction
        )
        yield self._gauge("generator_model_forward_time:avg_by_deployment", "Seconds of one step", _step_s)
        yield self._gauge("prefiller_prompt_cache_ttl:avg_by_deployment", "Seconds that cached prompts stay", _kept_s)
        yield self._gauge(
            "requests_coordinator_concurrent_count:avg_by_deployment",
            "Requests at once",
            lambda one: one.window.concurrent_requests,
        )

    def _gauge(self, name: str, meaning: str, read: Callable[[Seen], float | None]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, meaning, labels=LABELS)
        for one in self._seen:
            value = read(one)
            if value is not None:
                family.add_metric(one.labels, value)
        return family

    def _errors(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "requests_error_total:sum_by_deployment", "Failed requests per second", labels=[*LABELS, "http_code"]
        )
        for one in self._seen:
            for status, count in self._by_status(one.window).items():
                family.add_metric([*one.labels, str(status)], count / SPAN_S)
        return family

    def _by_status(self, window: LoadWindow) -> Counter[int]:
        counted: Counter[int] = Counter()
        for code, count in window.failures.items():
            counted[self._status_of(code)] += count
        return counted

    def _histogram(
        self, name: str, meaning: str, buckets: Sequence[float], measure: Callable[[AnswerTimes], float]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, meaning, labels=[*LABELS, "le"])
        for one in self._seen:
            values = [measure(times) for times in one.window.samples]
            for bound in (*buckets, math.inf):
                family.add_metric(
                    [*one.labels, "+Inf" if bound == math.inf else f"{bound:g}"],
                    sum(value <= bound for value in values),
                )
        return family


def _kv_fraction(one: Seen) -> float | None:
    beats = [
        replica.heartbeat for replica in one.replicas if replica.heartbeat is not None and replica.heartbeat.num_blocks
    ]
    return _mean(1 - beat.num_free_blocks / beat.num_blocks for beat in beats)


def _slots_fraction(one: Seen) -> float | None:
    return _mean(beat.num_running / one.max_num_requests for beat in one.beats)


def _step_s(one: Seen) -> float | None:
    return _mean(beat.step_s for beat in one.beats if beat.step_s)


def _kept_s(one: Seen) -> float | None:
    return _mean(beat.cache_kept_s for beat in one.beats if beat.cache_kept_s)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
