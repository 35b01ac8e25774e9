"""Fields of a generation: carried out, refused by name, or ignored and said so. Through the real API."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.api.data.chat import ChatBody
from appliance.api.data.completions import CompletionBody
from appliance.api.data.generation import WHOLE_PROMPT
from appliance.domain import Role
from appliance.errors import Code, HearthError
from runtime.protocol import Submit
from runtime.submission import ChatPrompt, SamplingParams
from tests.appliance.api.conftest import ASLEEP_MODEL, DEFAULT_TEMPERATURE, FOREIGN_MODEL, READY_MODEL, Api

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", "1"),
    ("top_p", 1.1),
    ("top_p", -1),
    ("min_p", 2),
    ("top_k", -1),
    ("top_k", 101),
    ("top_k", 1.5),
    ("n", 0),
    ("n", 129),
    ("n", 2**63),
    ("n", True),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", 2**31),
    ("max_completion_tokens", 0),
    ("seed", 2**63),
    ("seed", "1"),
    ("stop", ["a", "b", "c", "d", "e"]),
    ("stop", ""),
    ("stop", "x" * 257),
    ("stop", 1),
    ("logprobs", 6),
    ("logprobs", -1),
    ("logprobs", "true"),
    ("top_logprobs", 3),
    ("typical_p", 1.01),
    ("frequency_penalty", 2.01),
    ("presence_penalty", -2.01),
    ("repetition_penalty", -0.1),
    ("mirostat_target", -1),
    ("mirostat_lr", 101),
    ("logit_bias", {"1": 201}),
    ("logit_bias", {"-1": 1}),
    ("logit_bias", {"one": 1}),
    ("logit_bias", {str(token_id): 1 for token_id in range(1025)}),
    ("logit_bias", [1]),
    ("stop_token_ids", [-1]),
    ("stop_token_ids", [1] * 65),
    ("ignore_eos", 1),
    ("echo", "yes"),
    ("echo_last", -1),
    ("raw_output", 1),
    ("return_token_ids", "1"),
    ("perf_metrics_in_response", 0),
    ("context_length_exceeded_behavior", "panic"),
    ("prediction", {"type": "file", "content": "x"}),
    ("prediction", {"type": "content"}),
    ("prediction", 1),
    ("speculation", [-1]),
    ("speculation", [1.5]),
    ("prompt_cache_max_len", -1),
    ("prompt_cache_isolation_key", 1),
    ("prompt_truncate_len", 0),
    ("safe_tokenization", "no"),
    ("service_tier", "first"),
    ("user", 1),
    ("metadata", {"a": 1}),
    ("stream", "yes"),
    ("stream_options", {"include_usage": 1}),
    ("model", None),
    ("messages", []),
]


async def chat(api: Api, headers: dict[str, str] | None = None, **fields: Any) -> tuple[int, Any]:
    body = {"model": READY_MODEL, "messages": MESSAGES, **fields}
    async with api.session.post(CHAT, json=body, headers={**api.bearer(), **(headers or {})}) as response:
        return response.status, await response.json()


async def submitted(api: Api, headers: dict[str, str] | None = None, **fields: Any) -> Submit:
    status, body = await chat(api, headers, **fields)
    assert status == 200, body
    return api.router.submits[-1]


async def test_value_out_of_range_is_refused_naming_the_field(api: Api) -> None:
    for field, value in OUT_OF_RANGE:
        status, body = await chat(api, **{field: value})
        assert status == 400, (field, value)
        assert body["error"]["param"].startswith(field), (field, value)
        assert field in body["error"]["message"], (field, value)
    assert not api.router.submits


async def test_indexed_stop_and_top_logprobs_are_named_precisely(api: Api) -> None:
    _, body = await chat(api, stop=["a", ""])
    assert body["error"]["param"] == "stop[1]"
    _, body = await chat(api, logprobs=True, top_logprobs=6)
    assert body["error"]["param"] == "top_logprobs"


async def test_fields_that_the_api_does_not_name_are_ignored_and_listed(api: Api) -> None:
    metadata = {"a": "b"}  # the API names it, but there is nothing here that it would act on
    body = {"model": READY_MODEL, "messages": MESSAGES, "store": True, "verbosity": "low", "metadata": metadata}
    for is_stream in (False, True):
        sent = {**body, "stream": is_stream}
        async with api.session.post(CHAT, json=sent, headers=api.bearer()) as response:
            assert response.status == 200
            assert response.headers["hearth-ignored-fields"] == "store, verbosity, metadata"


async def test_every_optional_field_may_be_null(api: Api) -> None:
    for path, required, kind in (
        (CHAT, {"model": READY_MODEL, "messages": MESSAGES}, ChatBody),
        (COMPLETIONS, {"model": READY_MODEL, "prompt": "x"}, CompletionBody),
    ):
        body = {**dict.fromkeys(kind.__struct_encode_fields__), **required}
        async with api.session.post(path, json=body, headers=api.bearer()) as response:
            assert response.status == 200, await response.text()


async def test_sampling_is_what_was_said_else_the_models_own_else_neutral(api: Api) -> None:
    submit = await submitted(api)
    assert submit.sampling == SamplingParams(temperature=DEFAULT_TEMPERATURE)
    assert submit.max_tokens == api.services.config.limits.default_max_tokens
    submit = await submitted(api, temperature=0, top_p=0.5, top_k=7, min_p=0.1, seed=-5, max_completion_tokens=3)
    assert submit.sampling == SamplingParams(temperature=0, top_p=0.5, top_k=7, min_p=0.1, seed=-5)
    assert submit.max_tokens == 3


CARRIED_OUT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"context_length_exceeded_behavior": "error", "max_tokens": 9}, {"is_overflow_refused": True, "max_tokens": 9}),
    ({"context_length_exceeded_behavior": "truncate", "max_tokens": 9}, {"is_overflow_refused": False}),
    ({"stop_token_ids": [3, 4]}, {"stop_token_ids": [3, 4]}),
    ({"ignore_eos": True}, {"ignore_eos": True}),
    ({"echo": True}, {"num_echoed_tokens": WHOLE_PROMPT}),
    ({"echo_last": 3}, {"num_echoed_tokens": 3}),
    ({"echo": True, "echo_last": 3}, {"num_echoed_tokens": 3}),
    ({"echo": True, "echo_last": 0}, {"num_echoed_tokens": None}),
    ({"echo": False}, {"num_echoed_tokens": None}),
    ({"return_token_ids": True}, {"shows_prompt": True}),
    ({"raw_output": True}, {"shows_prompt": True}),
    ({"raw_output": False}, {"shows_prompt": False}),
    ({"prediction": "abc"}, {"prediction": "abc"}),
    ({"prediction": {"type": "content", "content": "abc"}}, {"prediction": "abc"}),
    ({"prediction": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}, {"prediction": "ab"}),
    ({"speculation": "abc"}, {"prediction": "abc"}),
    ({"speculation": [1, 2]}, {"prediction": [1, 2]}),
    ({"prompt_cache_max_len": 0}, {"cache_max_tokens": 0}),
    ({}, {"cache_max_tokens": None, "prediction": "", "stop_token_ids": [], "ignore_eos": False}),
]


async def test_fields_reach_the_worker(api: Api) -> None:
    for said, expected in CARRIED_OUT:
        submit = await submitted(api, **said)
        assert {name: getattr(submit, name) for name in expected} == expected, said


async def test_every_way_to_sample_reaches_the_worker(api: Api) -> None:
    sampling: dict[str, Any] = {
        "typical_p": 0.5,
        "frequency_penalty": -1.0,
        "presence_penalty": 1.5,
        "repetition_penalty": 1.1,
        "mirostat_target": 5.0,
        "mirostat_lr": 0.2,
    }
    submit = await submitted(api, **sampling, logit_bias={"7": -100, "0": 1.5})
    assert submit.sampling == SamplingParams(
        **sampling, logit_bias={7: -100.0, 0: 1.5}, temperature=DEFAULT_TEMPERATURE
    )


async def test_two_names_of_a_prediction_at_once_are_refused(api: Api) -> None:
    status, body = await chat(api, prediction="a", speculation="b")
    assert (status, body["error"]["param"]) == (400, "speculation")


async def test_chat_prompt_is_truncated_or_plain_as_asked(api: Api) -> None:
    prompt = (await submitted(api, prompt_truncate_len=50)).prompt
    assert isinstance(prompt, ChatPrompt)
    assert (prompt.max_tokens, prompt.is_plain_text) == (50, False)
    prompt = (await submitted(api, prompt_truncate_len=50, safe_tokenization=True)).prompt
    assert isinstance(prompt, ChatPrompt)
    assert (prompt.max_tokens, prompt.is_plain_text) == (None, True), "the one switches the other off"


async def test_both_names_of_max_tokens_at_once_are_refused(api: Api) -> None:
    status, body = await chat(api, max_tokens=1, max_completion_tokens=1)
    assert status == 400
    assert body["error"]["param"] == "max_completion_tokens"


@pytest.mark.parametrize(
    ("said", "num_logprobs"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": None, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 4}, 4),
        ({"logprobs": 0}, 0),
        ({"logprobs": 5}, 5),
    ],
)
async def test_logprobs_in_both_spellings(api: Api, said: dict[str, Any], num_logprobs: int | None) -> None:
    assert (await submitted(api, **said)).num_logprobs == num_logprobs


async def test_stop_is_one_string_or_several(api: Api) -> None:
    assert (await submitted(api, stop="x")).stop == ["x"]
    assert (await submitted(api, stop=["x", "y"])).stop == ["x", "y"]
    assert (await submitted(api, stop=[])).stop == []


async def test_affinity_is_the_header_else_the_cache_key_else_the_user(api: Api) -> None:
    await submitted(api, user="u")
    await submitted(api, user="u", prompt_cache_key="k")
    await submitted(api, {"x-session-affinity": "h"}, user="u", prompt_cache_key="k")
    await submitted(api)
    assert [lease.affinity_key for lease in api.router.leases] == ["u", "k", "h", None]


async def test_prefix_caches_are_apart_by_account_and_isolation_key_and_reveal_neither(api: Api) -> None:
    plain = (await submitted(api, user="u")).cache_namespace
    assert (await submitted(api, prompt_cache_key="k")).cache_namespace == plain
    isolated = (await submitted(api, prompt_cache_isolation_key="@/\\\0")).cache_namespace
    assert isolated != plain
    header = "x-prompt-cache-isolation-key"
    assert (await submitted(api, {header: "other"})).cache_namespace not in (plain, isolated)
    again = await submitted(api, {header: "other"}, prompt_cache_isolation_key="@/\\\0")
    assert again.cache_namespace == isolated, "the field wins"
    assert "hearth" not in plain
    assert isolated.isalnum()


async def test_wait_for_a_cold_start_is_the_setting_unless_the_header_says_otherwise(api: Api) -> None:
    await submitted(api)
    await submitted(api, {"hearth-cold-start-wait": "0.5"})
    assert [lease.wait_s for lease in api.router.leases] == [12.5, 0.5]


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", "1e9", ""])
async def test_senseless_wait_is_refused(api: Api, wait: str) -> None:
    status, body = await chat(api, {"hearth-cold-start-wait": wait})
    assert status == 400
    assert body["error"]["param"] == "hearth-cold-start-wait"


@pytest.mark.parametrize("model", ["nothing", FOREIGN_MODEL, "accounts/hearth/models/undeployed", "", "a#b", "\0"])
async def test_model_that_cannot_be_reached_is_not_found_in_the_words_clients_match(api: Api, model: str) -> None:
    status, body = await chat(api, model=model)
    assert status == 404
    assert body["error"] == {
        "message": "Model not found, inaccessible, and/or not deployed",
        "type": "error",
        "param": "model",
        "code": "NOT_FOUND",
    }


async def test_deployment_at_zero_is_woken(api: Api) -> None:
    await submitted(api, model=ASLEEP_MODEL)
    user = await api.services.identity.authenticate(api.keys[Role.USER])
    assert (await api.services.deployments.get(user, "hearth", "asleep-deployment")).desired_replica_count == 1


@pytest.mark.parametrize("is_stream", [False, True])
async def test_refusal_before_the_first_token_has_its_status_in_both_forms(api: Api, is_stream: bool) -> None:
    api.router.refusal = HearthError(
        Code.UNAVAILABLE, "tiny is scaling up", retry_after_s=3.0, reason="DEPLOYMENT_SCALING_UP"
    )
    body = {"model": READY_MODEL, "messages": MESSAGES, "stream": is_stream}
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "3"
        assert (await response.json())["error"]["code"] == "DEPLOYMENT_SCALING_UP"


async def test_inference_users_may_infer(api: Api) -> None:
    body = {"model": READY_MODEL, "messages": MESSAGES}
    async with api.session.post(CHAT, json=body, headers=api.bearer(Role.INFERENCE_USER)) as response:
        assert response.status == 200


FIELDS = sorted({*ChatBody.__struct_encode_fields__, *CompletionBody.__struct_encode_fields__, "other"})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from([READY_MODEL, 0, 1, -1, 2**31, 2**63, 1e308, "1", "user"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4), is_chat=st.booleans())
async def test_no_body_makes_the_server_fail(api: Api, changes: dict[str, Any], is_chat: bool) -> None:
    sane = {"messages": MESSAGES} if is_chat else {"prompt": "x"}
    body = {"model": READY_MODEL, **sane, **changes}
    async with api.session.post(CHAT if is_chat else COMPLETIONS, json=body, headers=api.bearer()) as response:
        await response.read()
        assert response.status == 200 or 400 <= response.status < 500
