"""The real `openai` and `fireworks` packages against the API, in-process."""

from collections.abc import AsyncIterator
from typing import Any

import fireworks
import openai
import pytest

from tests.appliance.api.conftest import READY_MODEL, Api
from tests.fakes.fake_router import ANSWER, NUM_CACHED_TOKENS, NUM_PROMPT_TOKENS, WORDS

MESSAGES: Any = [{"role": "user", "content": "hi"}]
PROMPTS: list[Any] = ["a", ["a", "b"], [1, 2], [[1], [2, 3], [4]]]
NUM_PROMPTS = [1, 2, 1, 3]


@pytest.fixture
async def openai_client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/inference/v1", api_key=api.bearer()["Authorization"].removeprefix("Bearer "), max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def fireworks_client(api: Api) -> AsyncIterator[fireworks.AsyncFireworks]:
    async with fireworks.AsyncFireworks(
        base_url=api.url,
        api_key=api.bearer()["Authorization"].removeprefix("Bearer "),
        account_id="hearth",
        max_retries=0,
    ) as client:
        yield client


@pytest.fixture(params=["openai", "fireworks"])
def client(request: pytest.FixtureRequest, openai_client: Any, fireworks_client: Any) -> Any:
    """Either one: their methods for inference have the same names and shapes."""
    return openai_client if request.param == "openai" else fireworks_client


async def test_chat(client: Any) -> None:
    answer = await client.chat.completions.create(model=READY_MODEL, messages=MESSAGES, n=3, seed=1, stop=["x"])
    assert [choice.message.content for choice in answer.choices] == [ANSWER] * 3
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    assert answer.usage.prompt_tokens == NUM_PROMPT_TOKENS
    assert answer.usage.completion_tokens == 3 * len(WORDS)
    assert answer.usage.prompt_tokens_details.cached_tokens == NUM_CACHED_TOKENS


async def test_chat_stream_has_usage_on_its_last_chunk(client: Any) -> None:
    stream = await client.chat.completions.create(model=READY_MODEL, messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == len(WORDS)
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_chat_stream_has_usage_apart_when_asked(client: Any) -> None:
    stream = await client.chat.completions.create(
        model=READY_MODEL, messages=MESSAGES, stream=True, extra_body={"stream_options": {"include_usage": True}}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert last.choices == []
    assert last.usage.total_tokens == NUM_PROMPT_TOKENS + len(WORDS)
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(("prompt", "num_prompts"), list(zip(PROMPTS, NUM_PROMPTS, strict=True)))
@pytest.mark.parametrize("is_stream", [False, True])
async def test_completions_take_every_form_of_a_prompt(
    client: Any, prompt: Any, num_prompts: int, is_stream: bool
) -> None:
    answer = await client.completions.create(model=READY_MODEL, prompt=prompt, n=3, stream=is_stream)
    texts = dict.fromkeys(range(3 * num_prompts), "")
    if is_stream:
        async for chunk in answer:
            texts[chunk.choices[0].index] += chunk.choices[0].text
    else:
        texts = {choice.index: choice.text for choice in answer.choices}
    assert texts == dict.fromkeys(range(3 * num_prompts), ANSWER)


async def test_logprobs_in_the_newer_form(client: Any) -> None:
    answer = await client.chat.completions.create(model=READY_MODEL, messages=MESSAGES, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert [token.token for token in content] == WORDS
    assert content[0].logprob == -0.5
    assert bytes(content[0].bytes) == WORDS[0].encode()
    assert [top.token for top in content[0].top_logprobs] == ["w0", "w1"]


async def test_logprobs_in_the_older_form(client: Any) -> None:
    answer = await client.completions.create(model=READY_MODEL, prompt="a", logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs.tokens == WORDS
    assert logprobs.token_logprobs == [-0.5] * len(WORDS)
    assert logprobs.text_offset == [ANSWER.index(word) for word in WORDS]
    assert logprobs.top_logprobs[0] == {"w0": 0.0, "w1": -1.0}


async def test_streamed_logprobs_equal_whole_ones(client: Any) -> None:
    asked = {"model": READY_MODEL, "messages": MESSAGES, "logprobs": True, "top_logprobs": 1}
    whole = await client.chat.completions.create(**asked)
    stream = await client.chat.completions.create(**asked, stream=True)
    streamed = [
        token async for chunk in stream if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content
    ]
    assert streamed == whole.choices[0].logprobs.content


async def test_max_tokens_ends_with_length(client: Any) -> None:
    answer = await client.chat.completions.create(model=READY_MODEL, messages=MESSAGES, max_tokens=2)
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "length"


async def test_errors_become_the_exceptions_of_the_package(client: Any) -> None:
    package: Any = openai if isinstance(client, openai.AsyncOpenAI) else fireworks
    create = client.chat.completions.create
    with pytest.raises(package.AuthenticationError):
        await client.with_options(api_key="fw_wrong").chat.completions.create(model=READY_MODEL, messages=MESSAGES)
    with pytest.raises(package.NotFoundError, match="Model not found, inaccessible, and/or not deployed"):
        await create(model="nothing", messages=MESSAGES)
    with pytest.raises(package.BadRequestError, match=r"messages\[0\]\.role"):
        await create(model=READY_MODEL, messages=[{"content": "hi"}])
    with pytest.raises(package.BadRequestError, match="top_k"):
        await create(model=READY_MODEL, messages=MESSAGES, extra_body={"top_k": -1})


async def test_openai_reads_code_param_and_request_id(openai_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await openai_client.chat.completions.create(model="nothing", messages=MESSAGES)
    assert (caught.value.code, caught.value.param, caught.value.type) == ("NOT_FOUND", "model", "error")
    assert caught.value.request_id


async def test_openai_lists_and_retrieves_models(openai_client: openai.AsyncOpenAI) -> None:
    assert READY_MODEL in [model.id async for model in openai_client.models.list()]
    assert (await openai_client.models.retrieve(READY_MODEL)).owned_by == "fireworks"
    with pytest.raises(openai.NotFoundError):
        await openai_client.models.retrieve("accounts/fireworks/models/nothing")


async def test_fireworks_client_works_with_each_base_url(api: Api) -> None:
    key = api.bearer()["Authorization"].removeprefix("Bearer ")
    for base in ("", "/inference", "/inference/v1"):
        async with fireworks.AsyncFireworks(base_url=api.url + base, api_key=key, max_retries=0) as client:
            answer = await client.chat.completions.create(model=READY_MODEL, messages=MESSAGES)
            assert answer.choices[0].message.content == ANSWER
