"""The packages people already use, unchanged, against a real daemon and its worker: base URL and key are enough."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fireworks
import httpx
import openai
import pytest
from fireworks import Fireworks
from openai import OpenAI
from tokenizers import Tokenizer

from models.builtin import EMBER_CHAT_DIRECTORY
from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess

QUESTION: Any = [{"role": "user", "content": "What is Hearth?"}]


@pytest.fixture(scope="module")
def fireworks_client(daemon: DaemonProcess) -> Iterator[Fireworks]:
    with Fireworks(base_url=daemon.base_url, api_key=daemon.api_key, account_id="hearth", max_retries=0) as client:
        yield client


def ember_tokens(text: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(Path(EMBER_CHAT_DIRECTORY) / "tokenizer.json"))
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def test_openai_chat_answers_with_usage(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(model=EMBER, messages=QUESTION, temperature=0)
    choice = answer.choices[0]
    assert "Hearth" in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_openai_stream_says_what_the_whole_answer_says(openai_client: OpenAI) -> None:
    whole = openai_client.chat.completions.create(model=EMBER, messages=QUESTION, temperature=0)
    stream = openai_client.chat.completions.create(
        model=EMBER, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert sum(1 for chunk in chunks if chunk.choices and chunk.choices[0].delta.content) > 3, "token by token"
    assert chunks[-1].usage == whole.usage


def test_openai_n_gives_that_many_choices(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(model=EMBER, messages=QUESTION, n=3, temperature=1.0, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)


def test_openai_seed_repeats_and_choices_differ_by_stream(openai_client: OpenAI) -> None:
    def sample(seed: int) -> list[str | None]:
        answer = openai_client.chat.completions.create(
            model=EMBER, messages=[{"role": "user", "content": "Hello"}], n=2, temperature=1.8, seed=seed, max_tokens=24
        )
        return [choice.message.content for choice in answer.choices]

    assert sample(7) == sample(7)
    assert sample(7) != sample(8)


def test_openai_stop_ends_before_the_stop_text(openai_client: OpenAI) -> None:
    whole = openai_client.chat.completions.create(model=EMBER, messages=QUESTION, temperature=0)
    text = whole.choices[0].message.content or ""
    stop = text[len(text) // 2 : len(text) // 2 + 4]
    cut = openai_client.chat.completions.create(model=EMBER, messages=QUESTION, temperature=0, stop=[stop])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_openai_max_tokens_cuts_with_length(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(model=EMBER, messages=QUESTION, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_openai_logprobs_name_every_token(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=EMBER, messages=QUESTION, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    said = b"".join(bytes(entry.bytes or []) for entry in logprobs.content).decode()
    assert (answer.choices[0].message.content or "") in said
    assert all(len(entry.top_logprobs) == 3 and entry.logprob <= 0 for entry in logprobs.content)
    assert all(entry.top_logprobs[0].token == entry.token for entry in logprobs.content), "greedy takes the likeliest"


def test_fireworks_chat_and_stream(fireworks_client: Fireworks) -> None:
    answer: Any = fireworks_client.chat.completions.create(model=EMBER, messages=QUESTION, temperature=0)
    stream: Any = fireworks_client.chat.completions.create(model=EMBER, messages=QUESTION, temperature=0, stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer.choices[0].message.content
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("form", ["string", "strings", "tokens", "lists of tokens"])
def test_fireworks_completions_take_every_prompt_form(fireworks_client: Fireworks, form: str) -> None:
    first, second = "Hearth is", "The daemon"
    prompt: Any = {
        "string": first,
        "strings": [first, second],
        "tokens": ember_tokens(first),
        "lists of tokens": [ember_tokens(first), ember_tokens(second)],
    }[form]
    answer: Any = fireworks_client.completions.create(model=EMBER, prompt=prompt, max_tokens=5, temperature=0, n=3)
    num_prompts = 2 if "s" in form.split()[0][-1:] and form != "tokens" else 1
    assert [choice.index for choice in answer.choices] == list(range(3 * num_prompts))
    assert answer.choices[0].text == answer.choices[1].text, "greedy choices of one prompt agree"


def test_openai_completions_logprobs_in_the_legacy_form(openai_client: OpenAI) -> None:
    answer = openai_client.completions.create(model=EMBER, prompt="Hearth is", max_tokens=4, temperature=0, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert answer.usage is not None
    lengths = {len(column or []) for column in (logprobs.tokens, logprobs.token_logprobs, logprobs.text_offset)}
    assert lengths == {answer.usage.completion_tokens}
    assert all(len(top) == 2 for top in logprobs.top_logprobs or [])


def test_models_are_listed_and_found_by_name(openai_client: OpenAI) -> None:
    listed = openai_client.models.list()
    assert EMBER in [model.id for model in listed.data]
    assert openai_client.models.retrieve(EMBER).id == EMBER


def test_a_wrong_key_is_401(daemon: DaemonProcess) -> None:
    with (
        OpenAI(base_url=f"{daemon.base_url}/inference/v1", api_key="fw_wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model=EMBER, messages=QUESTION)
    with (
        Fireworks(base_url=daemon.base_url, api_key="fw_wrong", max_retries=0) as client2,
        pytest.raises(fireworks.AuthenticationError),
    ):
        client2.chat.completions.create(model=EMBER, messages=QUESTION)


def test_an_unknown_model_is_404(openai_client: OpenAI, fireworks_client: Fireworks) -> None:
    with pytest.raises(openai.NotFoundError, match="Model not found, inaccessible, and/or not deployed"):
        openai_client.chat.completions.create(model="accounts/fireworks/models/nobody", messages=QUESTION)
    with pytest.raises(fireworks.NotFoundError):
        fireworks_client.chat.completions.create(model="accounts/fireworks/models/nobody", messages=QUESTION)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": QUESTION}, "model"),
        ({"model": EMBER}, "messages"),
        ({"model": EMBER, "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"model": EMBER, "messages": QUESTION, "temperature": "hot"}, "temperature"),
        ({"model": EMBER, "messages": QUESTION, "temperature": 9}, "temperature"),
        ({"model": EMBER, "messages": QUESTION, "n": 0}, "n"),
        ({"model": EMBER, "messages": QUESTION, "max_tokens": -1}, "max_tokens"),
        ({"model": EMBER, "messages": QUESTION, "mirostat_target": 3}, "mirostat_target"),
    ],
)
def test_a_malformed_body_is_400_naming_the_field(daemon: DaemonProcess, body: dict[str, Any], param: str) -> None:
    with daemon.client() as client:
        answer = client.post("/inference/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param, answer.text


def test_text_that_is_not_json_is_400(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        answer = client.post("/inference/v1/chat/completions", content=b'{"model": ')
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["message"]


def test_a_prompt_beyond_the_context_is_400_with_the_counts(openai_client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="prompt is too long"):
        openai_client.completions.create(model=EMBER, prompt="fire " * 9000, max_tokens=1)


def test_the_daemon_tells_its_health_without_a_key(daemon: DaemonProcess) -> None:
    for path in ("/health", "/healthz", "/readyz"):
        assert httpx.get(daemon.base_url + path).status_code == 200
