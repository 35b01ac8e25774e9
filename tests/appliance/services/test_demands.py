"""What a request may use before it has begun."""

from msgspec.structs import replace

from appliance.domain import QuotaMetric, TokenCounts
from appliance.services.demands import Demand, demand_of
from appliance.services.generation import Generation
from appliance.services.prompt_size import PromptSize
from runtime.protocol import Submit
from runtime.submission import TokenPrompt
from tests.appliance.services.accounting_world import OWN, SHARED

PROMPT = TokenPrompt(token_ids=[1] * 10)


def demand(max_tokens: int | None, num_choices: int = 1, num_prompts: int = 1) -> Demand:
    generation = Generation(request_id="r", model="poet", prompts=[PROMPT] * num_prompts, num_choices=num_choices)
    submits = [Submit(request_id="r", prompt=PROMPT, max_tokens=max_tokens)] * num_prompts
    return demand_of(generation, submits, SHARED)


def test_every_choice_of_every_prompt_may_be_as_long_as_asked() -> None:
    assert demand(20, num_choices=2, num_prompts=3) == Demand(PromptSize(30, 30), 120)


def test_a_context_bounds_prompt_and_answer() -> None:
    assert demand(None).num_generated == 512
    small = OWN._replace(deployment=replace(OWN.deployment, max_context_length=8))
    generation = Generation(request_id="r", model="poet", prompts=[PROMPT])
    submit = Submit(request_id="r", prompt=PROMPT, max_tokens=20)
    assert demand_of(generation, [submit], small) == Demand(PromptSize(8, 8), 8)


def test_of_a_rate_it_is_never_nothing_and_never_more_than_all() -> None:
    asked = Demand(PromptSize(likely=40, at_most=90))
    assert asked.of_rate(QuotaMetric.PROMPT_TOKENS, 1000) == 40
    assert asked.of_rate(QuotaMetric.PROMPT_TOKENS, 25) == 25
    assert asked.of_rate(QuotaMetric.GENERATED_TOKENS, 1000) == 1
    assert asked.of_rate(QuotaMetric.REQUESTS, 1000) == 1


def test_sound_and_pictures_cost_and_take_nothing_of_token_rates() -> None:
    asked = Demand(PromptSize(0, 0), audio_ms=60_000, num_images=3)
    assert asked.most == TokenCounts(audio_ms=60_000, num_images=3)
    assert asked.of_rate(QuotaMetric.GENERATED_TOKENS, 1000) == 1
    assert asked.of_rate(QuotaMetric.REQUESTS, 1000) == 1
