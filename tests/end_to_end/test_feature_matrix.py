"""Every feature of a request beside every other one, with good values and bad ones, all at once on one worker.

Good cases are all pairs of good values; then each bad value meets every good value of every other feature, and has to
be refused by its name whatever stands beside it. The worker is the same process before and after.
"""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, product
from typing import Any

import httpx
import pytest

from tests.end_to_end.clients.conversations import STATUS_TOOL, YES_OR_NO
from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess
from tests.end_to_end.observation import ask, worker_pids
from tests.end_to_end.pairwise import all_pairs

MAX_TOKENS = 12
NUM_AT_ONCE = 12
PREFIX = "What is Hearth? " * 20
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
PIXEL = b"P6 1 1 255 \0\0\0"
IMAGE = f"data:image/x-portable-pixmap;base64,{base64.b64encode(PIXEL).decode()}"

Fields = dict[str, Any]


def user_says(content: Any) -> Fields:
    return {"messages": [{"role": "user", "content": content}]}


def shows_image(url: str) -> Fields:
    return user_says([{"type": "image_url", "image_url": {"url": url}}])


def has_form(kind: str, value: Any) -> Fields:
    return {"response_format": {"type": kind, kind: value}}


GOOD: dict[str, dict[str, Fields]] = {
    "stream": {
        "no": {},
        "yes": {"stream": True},
        "usage apart": {"stream": True, "stream_options": {"include_usage": True}},
    },
    "n": {"one": {}, "three": {"n": 3}},
    "logprobs": {"no": {}, "newer": {"logprobs": True, "top_logprobs": 2}, "older": {"logprobs": 3}},
    "echo": {"no": {}, "whole": {"echo": True}, "last": {"echo_last": 2}},
    "stop": {"no": {}, "strings": {"stop": ["e", "1"]}, "tokens": {"stop_token_ids": [20, 21]}},
    "penalties": {
        "no": {"temperature": 0},
        "all": {"frequency_penalty": 1, "presence_penalty": -1, "repetition_penalty": 1.3, "logit_bias": {"30": 5}},
        "mirostat": {"temperature": 1, "mirostat_target": 4, "typical_p": 0.9},
    },
    "form": {"free": {}, "schema": has_form("json_schema", SCHEMA), "grammar": has_form("grammar", YES_OR_NO)},
    "tools": {
        "no": {},
        "auto": {"tools": [STATUS_TOOL]},
        "required": {"tools": [STATUS_TOOL], "tool_choice": "required"},
    },
    "speculation": {
        "no": {},
        "text": {"prediction": {"type": "content", "content": '{"a": 1} yes'}},
        "tokens": {"speculation": [5] * 30},
    },
    "prefix": {"fresh": {}, "hit": user_says(PREFIX), "no hit": {**user_says(PREFIX), "prompt_cache_max_len": 0}},
    "isolation": {"no": {}, "key": {"prompt_cache_isolation_key": "k"}},
}

BAD: list[tuple[str, Fields, str]] = [
    ("stream", {"stream": "yes"}, "stream"),
    ("n", {"n": 0}, "n"),
    ("n", {"n": 129}, "n"),
    ("logprobs", {"logprobs": 6}, "logprobs"),
    ("logprobs", {"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ("echo", {"echo_last": -1}, "echo_last"),
    ("stop", {"stop": [""]}, "stop"),
    ("stop", {"stop_token_ids": [10**6]}, "stop_token_ids"),
    ("penalties", {"repetition_penalty": 3}, "repetition_penalty"),
    ("penalties", {"logit_bias": {"1000000": 1}}, "logit_bias"),
    ("form", has_form("json_schema", {"type": "no-such"}), "response_format"),
    ("form", has_form("grammar", "root ::= nothing"), "response_format"),
    ("tools", {"tools": [{"type": "function", "function": {"name": "no name"}}]}, "tools"),
    ("tools", {"tool_choice": "required"}, "tool_choice"),
    ("speculation", {"speculation": [-1]}, "speculation"),
    ("prefix", {"prompt_cache_max_len": -1}, "prompt_cache_max_len"),
    ("isolation", {"prompt_cache_isolation_key": 1}, "prompt_cache_isolation_key"),
    ("prefix", shows_image(IMAGE), "messages"),
    ("prefix", shows_image("data:?"), "messages"),
]
"""A feature, a value that is refused beside everything else, and the field that the refusal names."""


def good_cases() -> list[Fields]:
    return [_fields(case) for case in all_pairs({name: list(values) for name, values in GOOD.items()})]


def bad_cases() -> Iterator[tuple[Fields, str]]:
    for feature, fields, param in BAD:
        others = {name: list(values) for name, values in GOOD.items() if name != feature}
        for turn in range(max(map(len, others.values()))):
            case = {name: values[turn % len(values)] for name, values in others.items()}
            yield {**_fields(case), **fields}, param


def _fields(case: dict[str, str]) -> Fields:
    fields: Fields = {"model": EMBER, "max_tokens": MAX_TOKENS, "seed": 1, **user_says("What is Hearth?")}
    for name, value in case.items():
        fields |= GOOD[name][value]
    return fields


def test_the_cases_hold_every_pair() -> None:
    names = {name: list(values) for name, values in GOOD.items()}
    cases = all_pairs(names)
    for (one, ones), (other, others) in combinations(names.items(), 2):
        assert set(product(ones, others)) <= {(case[one], case[other]) for case in cases}
    assert len(cases) < 40


def test_every_feature_works_beside_every_other_on_one_worker(daemon: DaemonProcess) -> None:
    before = ask(daemon)
    workers = worker_pids(daemon)
    work: list[tuple[Fields, str | None]] = [(fields, None) for fields in good_cases()]
    work += list(bad_cases())
    with daemon.client() as client, ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        failures = [failure for failure in pool.map(lambda job: _try(client, *job), work) if failure]
    assert not failures, "\n".join(failures)
    assert worker_pids(daemon) == workers
    assert ask(daemon) == before


def _try(client: httpx.Client, fields: Fields, param: str | None) -> str | None:
    """What is wrong with the answer."""
    response = client.post("/v1/chat/completions", json=fields)
    try:
        if param is None and {"tools", "response_format"} <= set(fields) and response.status_code == 400:
            assert response.json()["error"]["param"] in ("tools", "tool_choice", "response_format"), response.text
        elif param is None:
            assert response.status_code == 200, response.text
            _check_answer(fields, response)
        else:
            assert response.status_code == 400, response.text
            assert str(response.json()["error"]["param"]).startswith(param), response.text
    except AssertionError as failure:
        return f"{fields}: {failure}"
    return None


def _check_answer(fields: Fields, response: httpx.Response) -> None:
    choices = _streamed_choices(response.text) if fields.get("stream") else _whole_choices(response.json())
    assert sorted(choices) == list(range(fields.get("n", 1)))
    for choice in choices.values():
        text = choice["text"]
        assert choice["reason"] in ("stop", "length", "tool_calls")
        assert (choice["logprobs"] is not None) == ("logprobs" in fields)
        if fields.get("echo"):
            assert "What is Hearth?" in text
        is_plain = choice["reason"] == "stop" and not {"echo", "echo_last", "stop", "stop_token_ids"} & set(fields)
        form = fields.get("response_format", {})
        if is_plain and "grammar" in form:
            assert text in ("yes", "no")
        if is_plain and "json_schema" in form:
            assert isinstance(json.loads(text)["a"], int)
        if fields.get("tool_choice") == "required" and choice["reason"] == "tool_calls":
            assert choice["calls"], text


def _whole_choices(body: Any) -> dict[int, Fields]:
    assert body["usage"]["completion_tokens"] >= 1
    return {
        choice["index"]: {
            "text": choice["message"].get("content") or "",
            "calls": choice["message"].get("tool_calls"),
            "reason": choice["finish_reason"],
            "logprobs": choice["logprobs"],
        }
        for choice in body["choices"]
    }


def _streamed_choices(text: str) -> dict[int, Fields]:
    *events, end = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    assert end == "[DONE]", end
    chunks = [json.loads(event) for event in events]
    assert chunks[-1]["usage"]["completion_tokens"] >= 1
    found: dict[int, Fields] = {}
    for choice in [choice for chunk in chunks for choice in chunk["choices"]]:
        empty: Fields = {"text": "", "calls": None, "reason": None, "logprobs": None}
        told = found.setdefault(choice["index"], empty)
        assert told["reason"] is None, "nothing follows the reason"
        told["text"] += choice["delta"].get("content") or ""
        told["calls"] = choice["delta"].get("tool_calls") or told["calls"]
        told["logprobs"] = choice["logprobs"] or told["logprobs"]
        told["reason"] = choice["finish_reason"]
    return found


@pytest.mark.parametrize("factors", [{"a": ["1"]}, {"a": ["1", "2"], "b": ["3"]}])
def test_few_factors_are_their_own_pairs(factors: dict[str, list[str]]) -> None:
    assert len(all_pairs(factors)) == (2 if "b" in factors else 0)
