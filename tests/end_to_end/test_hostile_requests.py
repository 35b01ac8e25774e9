"""Requests that have ended other engines: each gets its answer or a refusal that names the field, and the worker stays.

The fields are read from the routes' own Structs, so that a new one is tried the day it is added.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from appliance.api.data.chat import ChatBody
from appliance.api.data.completions import CompletionBody
from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess
from tests.end_to_end.observation import ask, worker_pids

VOCAB_SIZE = 2048
CONTEXT_LENGTH = 2048
BLOCK_SIZE = 32
NUM_AT_ONCE = 24
INT32_MAX = 2**31 - 1
BODIES: dict[str, tuple[type[msgspec.Struct], dict[str, Any]]] = {
    "/v1/chat/completions": (ChatBody, {"messages": [{"role": "user", "content": "What is Hearth?"}]}),
    "/v1/completions": (CompletionBody, {"prompt": "The hearth keeps"}),
}
MAXIMA: dict[str, float] = {
    "n": 128,
    "max_tokens": INT32_MAX,
    "max_completion_tokens": INT32_MAX,
    "temperature": 2,
    "top_p": 1,
    "top_k": 100,
    "min_p": 1,
    "typical_p": 1,
    "frequency_penalty": 2,
    "presence_penalty": 2,
    "repetition_penalty": 2,
    "logprobs": 5,
    "top_logprobs": 5,
    "prompt_cache_max_len": INT32_MAX,
    "seed": 2**63 - 1,
}
EXTREMES: list[Any] = [0, -1, 2**31, 2**63, 1e308, float("nan"), "1", True, None, [], {}, ""]
COMPANIONS: dict[str, dict[str, Any]] = {
    "top_logprobs": {"logprobs": True},
    "max_completion_tokens": {"max_tokens": None},
    "mirostat_lr": {"mirostat_target": 3.0},
    "echo_last": {"echo": False},
}
"""What a field needs beside it to mean anything."""


class Case(NamedTuple):
    path: str
    field: str
    value: Any
    is_refused: bool | None
    """None: either is right."""

    def body(self) -> dict[str, Any]:
        base = {"model": EMBER, "temperature": 0, "max_tokens": 3, **BODIES[self.path][1]}
        return base | COMPANIONS.get(self.field, {}) | {self.field: self.value}


def cases(path: str) -> Iterator[Case]:
    for field in BODIES[path][0].__struct_encode_fields__:
        for value in EXTREMES:
            yield Case(path, field, value, None)
        if field in MAXIMA:
            maximum = MAXIMA[field]
            yield Case(path, field, maximum, False)
            yield Case(path, field, maximum + 1, True)


@pytest.fixture(scope="module", autouse=True)
def same_workers(daemon: DaemonProcess) -> Iterator[None]:
    """Whatever was sent: the same processes serve afterwards, answer as before, and have logged no exception."""
    answer, pids, log_length = ask(daemon), worker_pids(daemon), len(daemon.log())
    yield
    assert worker_pids(daemon) == pids
    assert ask(daemon) == answer
    assert " ERROR " not in daemon.log()[log_length:]


@pytest.fixture
async def session(daemon: DaemonProcess) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {daemon.api_key}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(daemon.base_url, headers=headers, timeout=timeout) as session:
        yield session


class Answer(NamedTuple):
    status: int
    body: dict[str, Any]
    """The last event's when it was a stream."""

    def names(self, field: str) -> bool:
        error = self.body["error"]
        return (error["param"] or "").startswith(field) or field in error["message"]


async def post(
    session: aiohttp.ClientSession, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> Answer:
    async with session.post(path, data=io.BytesIO(json.dumps(body).encode()), headers=headers) as response:
        text = await response.text()
        if response.content_type != "text/event-stream":
            return Answer(response.status, json.loads(text))
        events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        return Answer(response.status, json.loads(events[-2]))


async def complete(session: aiohttp.ClientSession, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    """A completion of at most one token, unless the fields say more."""
    body = {"model": EMBER, "temperature": 0, "max_tokens": 1, **fields}
    return await post(session, "/v1/completions", body, headers)


def complaint(case: Case, answer: Answer) -> str | None:
    """What is wrong with the answer."""
    told = f"{case.path} {case.field}={case.value!r}: {answer.status} {str(answer.body)[:300]}"
    if answer.status == 200 and not case.is_refused:
        choices = answer.body["choices"]
        is_stream = answer.body["object"].endswith("chunk") or case.field == "stream"
        num_choices = case.value if case.field == "n" and type(case.value) is int else 1
        is_right = is_stream or (len(choices) == num_choices and all(choice["finish_reason"] for choice in choices))
        return None if is_right else told
    is_right = answer.status == 400 and answer.names(case.field) and case.is_refused is not False
    is_right |= case.field == "model" and answer.status == 404
    return None if is_right else told


@pytest.mark.parametrize("path", BODIES)
async def test_every_parameter_at_its_extremes(session: aiohttp.ClientSession, path: str) -> None:
    room = asyncio.Semaphore(NUM_AT_ONCE)

    async def attempt(case: Case) -> str | None:
        async with room:
            return complaint(case, await post(session, case.path, case.body()))

    complaints = await asyncio.gather(*(attempt(case) for case in cases(path)))
    assert not any(complaints), "\n".join(filter(None, complaints))


@pytest.mark.parametrize("token_id", [VOCAB_SIZE, VOCAB_SIZE + 1, 151_645, 2**31 - 1, 2**63, -1])
async def test_token_ids_outside_of_the_vocabulary_are_refused(session: aiohttp.ClientSession, token_id: int) -> None:
    unknown: list[tuple[str, Any]] = [("prompt", [5, token_id]), ("logit_bias", {str(token_id): 1})]
    for field, value in unknown:
        fields: dict[str, Any] = {"prompt": "a", field: value}
        answer = await complete(session, **fields)
        assert answer.status == 400, answer
        assert answer.names(field), answer


async def test_the_last_token_of_the_vocabulary_is_one(session: aiohttp.ClientSession) -> None:
    answer = await complete(session, prompt=[VOCAB_SIZE - 1], logit_bias={str(VOCAB_SIZE - 1): -100})
    assert answer.status == 200, answer


@pytest.mark.parametrize(("num_tokens", "is_taken"), [(1, True), (2047, True), (2048, False), (2049, False)])
async def test_prompts_around_the_end_of_the_context(
    session: aiohttp.ClientSession, num_tokens: int, is_taken: bool
) -> None:
    answer = await complete(session, prompt=[7] * num_tokens)
    assert answer.status == (200 if is_taken else 400), answer
    if not is_taken:
        assert "prompt is too long" in answer.body["error"]["message"]
        assert str(num_tokens) in answer.body["error"]["message"]


@pytest.mark.parametrize("prompt", [" ", "\x00", "<|im_start|>" * 50, "\u202e" * 99, "\U0001f525" * 99])
async def test_prompts_nobody_would_write_are_answered(session: aiohttp.ClientSession, prompt: str) -> None:
    assert (await complete(session, prompt=prompt)).status == 200


async def test_prompts_of_nothing_of_megabytes_and_of_half_a_character_are_refused(
    session: aiohttp.ClientSession,
) -> None:
    nothing = await complete(session, prompt="")
    assert (nothing.status, nothing.body["error"]["param"]) == (400, "prompt"), "the model has no token to begin with"
    huge = await complete(session, prompt="a" * 10_000_000)
    assert huge.status == 400
    assert "prompt is too long" in huge.body["error"]["message"]
    assert (await complete(session, prompt="\ud83d")).status == 400


async def test_choices_of_all_prompts_together_are_limited(session: aiohttp.ClientSession) -> None:
    answer = await complete(session, prompt=["a"] * 128, n=128)
    assert answer.status == 400
    assert answer.names("n")


async def test_one_request_id_for_everybody_mixes_nobody_up(session: aiohttp.ClientSession) -> None:
    answers = await asyncio.gather(
        *(complete(session, {"X-Request-Id": "the same"}, prompt=[9] * (10 + i), max_tokens=5) for i in range(40))
    )
    assert [answer.body["usage"]["prompt_tokens"] for answer in answers] == [10 + i for i in range(40)]


@pytest.mark.parametrize("text", ["@/\\ \t%00", "x" * 8000, "..", "é"])
async def test_headers_with_odd_text_change_nothing(session: aiohttp.ClientSession, text: str) -> None:
    names = ("X-Request-Id", "x-session-affinity", "x-prompt-cache-isolation-key")
    answer = await complete(session, dict.fromkeys(names, text), prompt="a")
    assert answer.status == 200, answer
    refused = await complete(session, {"X-Request-Id": "x" * 1_000_000}, prompt="a")
    assert refused.status == 400


async def cached_tokens(session: aiohttp.ClientSession, prompt: list[int], **fields: Any) -> int:
    headers = fields.pop("headers", None)
    answer = await complete(session, headers, prompt=prompt, **fields)
    assert answer.status == 200, answer
    return int(answer.body["usage"]["prompt_tokens_details"]["cached_tokens"])


async def test_isolation_keys_of_any_text_separate_caches(session: aiohttp.ClientSession) -> None:
    prompt = [3 + i % 50 for i in range(10 * BLOCK_SIZE)]
    cached = 9 * BLOCK_SIZE  # at least one token is always computed
    keys: list[str] = ["a", "@/\\\x00", '"],', "b" * 1_000_000]
    spaces: list[dict[str, Any]] = [{}, *({"prompt_cache_isolation_key": key} for key in keys)]
    for space in [*spaces, {"headers": {"x-prompt-cache-isolation-key": "only in the header"}}]:
        assert await cached_tokens(session, prompt, **space) == 0, space
        assert await cached_tokens(session, prompt, **space) == cached, space
    assert await cached_tokens(session, prompt, headers={"x-prompt-cache-isolation-key": "a"}) == cached
    for most, expected in [(0, 0), (31, 0), (32, 32), (100, 96), (10_000, cached)]:
        assert await cached_tokens(session, prompt, prompt_cache_max_len=most) == expected


EMPTY_SCHEMAS: list[Any] = [None, {}, True, ""]
NOTHING_MUCH: dict[str, list[Any]] = {
    "response_format": [
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {}},
        *({"type": "json_schema", "json_schema": {"schema": schema}} for schema in EMPTY_SCHEMAS),
        *({"type": "grammar", "grammar": grammar} for grammar in ("", "root ::=", "root ::= root", "x")),
    ],
    "tools": [[tool] for tool in ({}, None, {"type": "function"}, {"type": "function", "function": {}})],
    "stop": [[""], "", [None], ["a"] * 5, "x" * 257],
    "logit_bias": [{"": 1}, {"1": None}, {"1": 1e308}, {"1.5": 1}, {"a": 1}],
    "messages": [[message] for message in ({}, {"role": "user"}, {"role": "tool", "content": None}, {"role": "x"})],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, some in NOTHING_MUCH.items() for value in some])
async def test_values_with_nothing_in_them(session: aiohttp.ClientSession, field: str, value: Any) -> None:
    body = {"model": EMBER, "max_tokens": 3, **BODIES["/v1/chat/completions"][1], field: value}
    answer = await post(session, "/v1/chat/completions", body)
    assert answer.status in (200, 400), answer
    assert answer.status == 200 or answer.names(field), answer
