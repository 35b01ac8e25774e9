"""From what is asked to what a worker is sent."""

from typing import Any

import msgspec
import pytest

from appliance.config import LimitSettings
from appliance.errors import HearthError
from appliance.services.generation import SAMPLING_FIELDS, Generation, cache_namespace, to_submits
from runtime.submission import SamplingParams, TextPrompt, TokenPrompt
from tests.appliance.services.samples import INFO, model, principal

ADMIN = principal()


def test_cache_namespaces_differ_by_account_and_key_and_cannot_be_forged() -> None:
    pairs = [("a", None), ("a", ""), ("a", "b"), ("ab", None), ("ab", ""), ("b", "a"), ("a", 'b"]'), ('a","b', None)]
    assert len({cache_namespace(account_id, key) for account_id, key in pairs}) == len(pairs)
    assert cache_namespace("a", "b") == cache_namespace("a", "b")


def sampling(default_sampling: dict[str, float], **said: Any) -> SamplingParams:
    info = msgspec.structs.replace(INFO, default_sampling=default_sampling)
    generation = Generation(request_id="r", model="m", prompts=[TextPrompt(text="x")], **said)
    (submit,) = to_submits(ADMIN, generation, msgspec.structs.replace(model("acme", "m"), info=info), LimitSettings())
    return submit.sampling


def test_a_request_wins_over_the_models_defaults_and_those_over_neutral_values() -> None:
    defaults = {"temperature": 0.7, "top_k": 20.0, "repetition_penalty": 1.1, "typical_p": 0.9, "unheard_of": 1.0}
    assert sampling(defaults, temperature=0.0, typical_p=1.0) == SamplingParams(
        temperature=0.0, top_k=20, repetition_penalty=1.1
    )
    assert sampling({}) == SamplingParams()


def test_every_sampling_field_of_a_generation_reaches_the_worker() -> None:
    said: dict[str, Any] = dict.fromkeys(SAMPLING_FIELDS, 0.25) | {"top_k": 3, "logit_bias": {5: -1.0}, "seed": 7}
    assert sampling({"top_p": 0.5}, **said) == SamplingParams(**said)
    assert {*SAMPLING_FIELDS, "logit_bias", "seed"} == {*SamplingParams.__struct_fields__}


def test_a_default_length_that_does_not_fit_is_lowered_in_silence() -> None:
    generation = Generation(request_id="r", model="m", prompts=[TextPrompt(text="x")], is_overflow_refused=True)
    (ours,) = to_submits(ADMIN, generation, model("acme", "m"), LimitSettings(default_max_tokens=7))
    assert (ours.max_tokens, ours.is_overflow_refused) == (7, False)
    said = msgspec.structs.replace(generation, max_tokens=9)
    (theirs,) = to_submits(ADMIN, said, model("acme", "m"), LimitSettings())
    assert (theirs.max_tokens, theirs.is_overflow_refused) == (9, True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompts": [TokenPrompt(token_ids=[1]), TokenPrompt(token_ids=[INFO.vocab_size])]}, "prompt"),
        ({"logit_bias": {INFO.vocab_size: 1.0}}, "logit_bias"),
        ({"stop_token_ids": [1, INFO.vocab_size]}, "stop_token_ids"),
        ({"prediction": [INFO.vocab_size]}, "speculation"),
        ({"num_choices": 513}, "n"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    fields = {"prompts": [TextPrompt(text="x")], **fields}
    with pytest.raises(HearthError) as caught:
        to_submits(ADMIN, Generation(request_id="r", model="m", **fields), model("acme", "m"), LimitSettings())
    assert caught.value.param == param
