"""Every field of both routes at the ends of its range and beyond: answered, or refused by its name. Nothing else."""

import json
import math
from typing import Any

import msgspec
import pytest

from appliance.api.data.chat import ChatBody
from appliance.api.data.completions import CompletionBody
from tests.appliance.api.conftest import READY_MODEL, VOCAB_SIZE, Api

ROUTES: list[tuple[str, type[msgspec.Struct], dict[str, Any]]] = [
    ("/v1/chat/completions", ChatBody, {"messages": [{"role": "user", "content": "hi"}]}),
    ("/v1/completions", CompletionBody, {"prompt": "hi"}),
]
EXTREMES: list[Any] = [0, -1, 2**31, 2**63, 1e308, math.nan, "1", True, None, [], {}]
LARGEST: list[tuple[str, Any]] = [
    ("n", 128),
    ("max_tokens", 2**31 - 1),
    ("temperature", 2),
    ("top_p", 1),
    ("top_k", 100),
    ("min_p", 1.0),
    ("typical_p", 1),
    ("frequency_penalty", 2),
    ("presence_penalty", 2.0),
    ("repetition_penalty", 2),
    ("mirostat_target", 1000),
    ("mirostat_lr", 100),
    ("logit_bias", {str(VOCAB_SIZE - 1): 200}),
    ("logprobs", 5),
    ("seed", 2**63 - 1),
    ("echo_last", 2**31 - 1),
    ("prompt_cache_max_len", 2**31 - 1),
    ("stop", ["x" * 256] * 4),
    ("stop_token_ids", [VOCAB_SIZE - 1] * 64),
    ("speculation", [VOCAB_SIZE - 1]),
]
"""At its maximum each is carried out; one more, or one longer, is refused."""


async def ask(api: Api, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    headers = {**api.bearer(), "Content-Type": "application/json"}
    async with api.session.post(path, data=json.dumps(body), headers=headers) as response:
        text = await response.text()
        return response.status, json.loads(text)["error"] if response.status != 200 else {}


def allows(schema: dict[str, Any], value: Any) -> bool:
    """Whether what /openapi.json says of a field lets this value pass."""
    if "anyOf" in schema:
        return any(allows(option, value) for option in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"] and not isinstance(value, bool)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    match schema.get("type"):
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case "integer" | "number" as kind:
            is_whole = kind == "number" or isinstance(value, int)
            lowest, highest = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
            return is_number and is_whole and lowest <= value <= highest
        case _:
            is_object = "$ref" in schema or "type" in schema
            return isinstance(value, dict) or not is_object


@pytest.mark.parametrize(("path", "kind", "said"), ROUTES, ids=["chat", "completions"])
async def test_every_field_at_every_extreme_is_answered_or_refused_by_name(
    api: Api, path: str, kind: type[msgspec.Struct], said: dict[str, Any]
) -> None:
    (_,), components = msgspec.json.schema_components([kind])
    for name, schema in components[kind.__name__]["properties"].items():
        for value in EXTREMES:
            status, error = await ask(api, path, {"model": READY_MODEL, **said, name: value})
            if name == "model" and isinstance(value, str):
                assert status == 404
                continue
            assert status in (200, 400), (name, value, error)
            assert status == 400 or allows(schema, value), (name, value)
            assert status == 200 or str(error["param"]).startswith(name), (name, value, error)
            assert status == 200 or name in error["message"], (name, value, error)
            if value is None and name not in (*said, "model"):
                assert status == 200, (name, error)


async def test_maximum_is_carried_out_and_one_more_is_refused(api: Api) -> None:
    path, _, said = ROUTES[0]
    for name, value in LARGEST:
        status, error = await ask(api, path, {"model": READY_MODEL, **said, name: value})
        assert status == 200, (name, error)
        status, error = await ask(api, path, {"model": READY_MODEL, **said, name: one_more(value)})
        assert status == 400, name
        assert error["param"].startswith(name), error


def one_more(value: Any) -> Any:
    match value:
        case int() | float():
            return value + 1
        case [int(), *_]:
            return [*value[1:], value[0] + 1]
        case list():
            return [*value, value[0]]
        case dict():
            return {key: number + 1 for key, number in value.items()}
    raise AssertionError(value)


async def test_tokens_that_the_model_does_not_have_are_refused_before_anything_runs(api: Api) -> None:
    for name, value in [
        ("logit_bias", {str(VOCAB_SIZE): 1}),
        ("stop_token_ids", [1, VOCAB_SIZE]),
        ("speculation", [VOCAB_SIZE]),
    ]:
        for path, _, said in ROUTES:
            status, error = await ask(api, path, {"model": READY_MODEL, **said, name: value})
            assert (status, error["param"]) == (400, name)
    assert not api.router.submits
