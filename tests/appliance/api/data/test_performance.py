import msgspec
import pytest

from appliance.api.data.performance import to_headers
from appliance.api.data.usage import CompletionTokensDetails, PromptTokensDetails, UsageInfo
from runtime.protocol import Performance
from runtime.submission import SamplingParams
from tests.appliance.api.data.samples import stopwatch
from tests.fakes.low_level import TIMES

USAGE = UsageInfo(10, 2, 12, PromptTokensDetails(4), CompletionTokensDetails(0))


def test_figures_are_there_for_a_worker_that_tells_nothing() -> None:
    watch = stopwatch()
    watch.note_output()
    watch.add(None)
    figures = watch.figures(USAGE)
    assert (figures["prompt-tokens"], figures["cached-prompt-tokens"]) == (10, 4)
    assert figures["deployment"] == "accounts/hearth/deployments/d"
    first, whole = figures["server-time-to-first-token"], figures["server-processing-time"]
    assert isinstance(first, float)
    assert isinstance(whole, float)
    assert 0 < first <= whole
    assert "prefill-duration" not in figures


def test_slowest_choice_and_all_of_the_speculation_count() -> None:
    watch = stopwatch()
    watch.add(msgspec.structs.replace(TIMES, prefill_s=0.5, num_drafted_tokens=8, num_accepted_tokens=6))
    watch.add(msgspec.structs.replace(TIMES, generation_s=0.7, num_drafted_tokens=2, num_accepted_tokens=2))
    figures = watch.figures(USAGE)
    assert (figures["prefill-duration"], figures["generation-duration"]) == (0.5, 0.7)
    assert (figures["speculation-generated-tokens"], figures["speculation-acceptance"]) == (10, 0.8)
    assert figures["num-concurrent-requests"] == TIMES.num_concurrent_requests
    assert "speculation-prompt-tokens" not in figures


def test_every_measure_of_the_worker_is_shown() -> None:
    watch, shown = stopwatch(), stopwatch()
    numbers = {name: index + 1 for index, name in enumerate(Performance.__struct_fields__)}
    watch.add(Performance(**numbers))
    shown.add(TIMES)
    assert len(watch.figures(USAGE)) == len(shown.figures(USAGE)) + 4
    for name in ("tokenizer_queue_s", "tokenizer_s", "prefill_queue_s", "prefill_s", "generation_queue_s"):
        assert watch.figures(USAGE)[name.replace("_s", "-duration").replace("_", "-")] == numbers[name]


def test_headers_are_decimal_and_old_names_stay() -> None:
    watch = stopwatch(SamplingParams(temperature=0.25, logit_bias={1: 2.0}))
    watch.add(msgspec.structs.replace(TIMES, prefill_s=0.00001, num_predicted_tokens=5, num_predicted_accepted=3))
    headers = to_headers(watch.figures(USAGE))
    assert headers["fireworks-prefill-duration"] == "0.000010"
    assert headers["fireworks-prompt-tokens"] == "10"
    assert headers["fireworks-speculation-matched-tokens"] == headers["fireworks-speculation-prompt-matched-tokens"]
    assert msgspec.json.decode(headers["fireworks-sampling-options"]) == {
        "temperature": pytest.approx(0.25),
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "max_tokens": 9,
    }
