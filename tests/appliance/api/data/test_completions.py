"""Every form of a prompt, and the answer's shape."""

from typing import Any

import pytest

from runtime.submission import TextPrompt, TokenPrompt
from tests.appliance.api.conftest import READY_MODEL, VOCAB_SIZE, Api
from tests.fakes.fake_router import ANSWER, NUM_CACHED_TOKENS, NUM_PROMPT_TOKENS, WORDS

COMPLETIONS = "/inference/v1/completions"


async def complete(api: Api, prompt: Any, **fields: Any) -> tuple[int, Any]:
    body = {"model": READY_MODEL, "prompt": prompt, **fields}
    async with api.session.post(COMPLETIONS, json=body, headers=api.bearer()) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("prompt", "submitted"),
    [
        ("a", [TextPrompt(text="a")]),
        ("", [TextPrompt(text="")]),
        (["a"], [TextPrompt(text="a")]),
        (["a", "b"], [TextPrompt(text="a"), TextPrompt(text="b")]),
        ([1, 2, 3], [TokenPrompt(token_ids=[1, 2, 3])]),
        ([[1], [2, 3]], [TokenPrompt(token_ids=[1]), TokenPrompt(token_ids=[2, 3])]),
    ],
)
async def test_each_prompt_becomes_one_submit(api: Api, prompt: Any, submitted: list[Any]) -> None:
    status, body = await complete(api, prompt, n=2)
    assert status == 200, body
    assert [submit.prompt for submit in api.router.submits] == submitted
    assert len({submit.request_id for submit in api.router.submits}) == len(submitted)
    assert [choice["index"] for choice in body["choices"]] == list(range(2 * len(submitted)))
    assert {choice["text"] for choice in body["choices"]} == {ANSWER}
    assert body["usage"]["prompt_tokens"] == NUM_PROMPT_TOKENS * len(submitted)
    assert body["usage"]["completion_tokens"] == 2 * len(WORDS) * len(submitted)
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == NUM_CACHED_TOKENS * len(submitted)


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (None, "prompt"),
        ([], "prompt"),
        ([[]], "prompt[0]"),
        (["a", 1], "prompt"),
        ([1, [2]], "prompt"),
        ([[1], "a"], "prompt"),
        ([[1, "a"]], "prompt[0][1]"),
        ([-1], "prompt[0]"),
        ([2**31], "prompt[0]"),
        ([1.5], "prompt[0]"),
        ([VOCAB_SIZE], "prompt"),
        ([[1], [VOCAB_SIZE + 1]], "prompt"),
        (["a"] * 129, "prompt"),
        ({}, "prompt"),
    ],
)
async def test_bad_prompt_is_refused_naming_its_place(api: Api, prompt: Any, param: str) -> None:
    status, body = await complete(api, prompt)
    assert status == 400
    assert body["error"]["param"] == param
    assert not api.router.submits


async def test_whole_answer_has_the_shape_of_the_api(api: Api) -> None:
    _, answer = await complete(api, "a", max_tokens=2, logprobs=1)
    assert answer.pop("id").startswith("cmpl-")
    assert answer.pop("created") > 0
    assert answer == {
        "object": "text_completion",
        "model": READY_MODEL,
        "choices": [
            {
                "index": 0,
                "text": "Hello",
                "logprobs": {
                    "tokens": ["Hel", "lo"],
                    "token_logprobs": [-0.5, -0.5],
                    "top_logprobs": [{"w0": 0.0}, {"w0": 0.0}],
                    "text_offset": [0, 3],
                    "token_ids": [0, 1],
                },
                "finish_reason": "length",
            }
        ],
        "usage": {
            "prompt_tokens": NUM_PROMPT_TOKENS,
            "completion_tokens": 2,
            "total_tokens": NUM_PROMPT_TOKENS + 2,
            "prompt_tokens_details": {"cached_tokens": NUM_CACHED_TOKENS},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_newer_logprobs_are_there_for_completions_too(api: Api) -> None:
    _, answer = await complete(api, "a", max_tokens=1, logprobs=True, top_logprobs=2)
    (token,) = answer["choices"][0]["logprobs"]["content"]
    assert token["token"] == "Hel"
    assert [top["token"] for top in token["top_logprobs"]] == ["w0", "w1"]
