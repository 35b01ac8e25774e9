import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.domain import Deployment, ReplicaState
from appliance.errors import Code, HearthError
from appliance.orchestrator.views import ReplicaView
from appliance.services.account_metrics import AccountMetrics
from appliance.services.loads import Loads
from runtime.protocol import Delta, Heartbeat, Performance, Usage
from tests.appliance.orchestrator.samples import sample_deployment

NAMES = [
    "request_counter_total",
    "requests_error_total",
    "tokens_cached_prompt_total",
    "tokens_prompt_total",
    "latency_generation_per_token_ms_bucket",
    "latency_generation_queue_ms_bucket",
    "latency_overall_ms_bucket",
    "latency_to_first_token_ms_bucket",
    "latency_prefill_ms_bucket",
    "latency_prefill_queue_ms_bucket",
    "tokens_generated_per_request_bucket",
    "tokens_prompt_per_request_bucket",
]
GAUGES = [
    "generator_kv_blocks_fraction",
    "generator_kv_slots_fraction",
    "generator_model_forward_time",
    "prefiller_prompt_cache_ttl",
    "requests_coordinator_concurrent_count",
]
DEPLOYMENT = sample_deployment()


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.replicas: list[ReplicaView] = []
        self.loads = Loads(lambda: self.now, lambda: self.now)
        self.metrics = AccountMetrics(self.loads, self.list_deployments, lambda code: 503, 256, lambda: self.now)

    def list_deployments(self, account_id: str) -> list[tuple[Deployment, list[ReplicaView]]]:
        return [(DEPLOYMENT, self.replicas)] if account_id == "acme" else []

    def answer(self, latency_s: float) -> None:
        usage = Usage(num_prompt_tokens=100, num_cached_tokens=60, num_completion_tokens=3)
        spent = Performance(
            tokenizer_queue_s=0.0,
            tokenizer_s=0.0,
            prefill_queue_s=0.2,
            prefill_s=0.04,
            generation_queue_s=0.0,
            generation_s=0.5,
            num_concurrent_requests=1,
        )
        with self.loads.request(DEPLOYMENT.name) as request:
            self.now += latency_s
            request.count([Delta(request_id="r", token_ids=[1, 2, 3], usage=usage, performance=spent)])

    def read(self) -> dict[tuple[str, str], float]:
        """Values by name and what tells samples of one name apart."""
        page = self.metrics.render("acme").decode()
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        for sample in samples:
            assert (sample.labels["deployment"], sample.labels["deployment_id"]) == (DEPLOYMENT.name, DEPLOYMENT.id)
            assert (sample.labels["base_model"], sample.labels["deployment_account"]) == (DEPLOYMENT.base_model, "acme")
        return {
            (sample.name, sample.labels.get("le", sample.labels.get("http_code", ""))): sample.value
            for sample in samples
        }


def test_rates_and_histograms_are_those_of_the_last_minute() -> None:
    world = World()
    world.answer(0.5)
    world.answer(3.0)
    with pytest.raises(HearthError), world.loads.request(DEPLOYMENT.name):
        raise HearthError(Code.UNAVAILABLE, "no")
    values = world.read()
    assert values["request_counter_total:sum_by_deployment", ""] == 3 / 60
    assert values["requests_error_total:sum_by_deployment", "503"] == 1 / 60
    assert values["tokens_prompt_total:sum_by_deployment", ""] == 200 / 60
    assert values["tokens_cached_prompt_total:sum_by_deployment", ""] == 120 / 60
    overall = "latency_overall_ms_bucket:sum_by_deployment"
    assert [values[overall, le] for le in ("250", "500", "2500", "5000", "+Inf")] == [0, 1, 1, 2, 2]
    assert values["latency_prefill_queue_ms_bucket:sum_by_deployment", "250"] == 2
    assert values["tokens_generated_per_request_bucket:sum_by_deployment", "4"] == 2

    world.now += 120
    assert world.read()["request_counter_total:sum_by_deployment", ""] == 0


def test_every_name_of_the_platform_is_there() -> None:
    world = World()
    page = world.metrics.render("acme").decode()
    for name in NAMES:
        assert f"# TYPE {name}:sum_by_deployment gauge" in page
    for name in GAUGES:
        assert f"# TYPE {name}:avg_by_deployment gauge" in page


def test_what_replicas_say_is_averaged_over_those_that_speak() -> None:
    world = World()
    beats = [
        Heartbeat(
            num_steps=1,
            is_busy=False,
            num_running=running,
            num_waiting=0,
            num_free_blocks=25,
            num_blocks=100,
            step_s=step_s,
            cache_kept_s=0.0,
        )
        for running, step_s in ((64, 0.25), (128, 0.75))
    ]
    world.replicas = [
        ReplicaView(
            index=index,
            state=ReplicaState.READY,
            reason="",
            reserved_bytes=1,
            pid=None,
            num_in_flight=0,
            progress=None,
            heartbeat=beat,
            log_tail=[],
        )
        for index, beat in enumerate([*beats, None])
    ]
    values = world.read()
    assert values["generator_kv_blocks_fraction:avg_by_deployment", ""] == 0.75
    assert values["generator_kv_slots_fraction:avg_by_deployment", ""] == (64 + 128) / 2 / 256
    assert values["generator_model_forward_time:avg_by_deployment", ""] == 0.5
    assert ("prefiller_prompt_cache_ttl:avg_by_deployment", "") not in values, "nothing was forgotten yet"


def test_a_page_is_new_twice_a_minute_and_given_six_times() -> None:
    world = World()
    first = world.metrics.render("acme")
    world.answer(1.0)
    assert world.metrics.render("acme") == first, "not half a minute old"
    world.now += 29
    assert world.metrics.render("acme") != first
    for _ in range(3):
        world.metrics.render("acme")
    with pytest.raises(HearthError) as raised:
        world.metrics.render("acme")
    assert (raised.value.code, raised.value.retry_after_s) == (Code.RATE_LIMITED, 30.0)
    world.metrics.render("other")
    world.now += 30
    world.metrics.render("acme")
