import base64

import msgspec
import pytest

from appliance.api.data.choices import Choice
from appliance.api.data.raw_output import render_raw_output
from appliance.services.generation import Generation
from runtime.protocol import Delta, PromptOutput
from runtime.submission import (
    ChatMessage,
    ChatPrompt,
    GrammarConstraint,
    ImagePart,
    JsonConstraint,
    TextPart,
    TextPrompt,
    TokenPrompt,
)

GENERATION = Generation(request_id="id", model="m", prompts=[TextPrompt(text="a"), TokenPrompt(token_ids=[5, 6])])
PIXEL = b"P6 1 1 255 \0\0\0"
SHOWN = PromptOutput(text="<s>a", token_ids=[1, 5])


def test_fragments_are_the_prompt_as_it_was_given_text_or_tokens() -> None:
    assert render_raw_output(GENERATION, 0, SHOWN, Choice())["prompt_fragments"] == ["<s>a"]
    assert render_raw_output(GENERATION, 1, SHOWN, Choice())["prompt_fragments"] == [5, 6]


@pytest.mark.parametrize(
    ("constraint", "grammar"),
    [(GrammarConstraint(gbnf='root ::= "a"'), 'root ::= "a"'), (JsonConstraint(schema="{}"), "{}")],
)
def test_grammar_is_shown_when_there_is_one(constraint: GrammarConstraint | JsonConstraint, grammar: str) -> None:
    generation = msgspec.structs.replace(GENERATION, constraint=constraint)
    assert render_raw_output(generation, 0, SHOWN, Choice())["grammar"] == grammar
    assert "grammar" not in render_raw_output(GENERATION, 0, SHOWN, Choice())


def test_images_are_shown_as_clients_send_them() -> None:
    chat = ChatPrompt(messages=[ChatMessage(role="user", content=[TextPart(text="what?"), ImagePart(data=PIXEL)])])
    prompts = [chat, TextPrompt(text="<image>", images=[PIXEL]), TokenPrompt(token_ids=[1])]
    generation = msgspec.structs.replace(GENERATION, prompts=prompts)
    uri = "data:image/ppm;base64," + base64.b64encode(PIXEL).decode()
    for index in (0, 1):
        assert render_raw_output(generation, index, SHOWN, Choice())["images"] == [uri]
    assert "images" not in render_raw_output(generation, 2, SHOWN, Choice())


def test_completion_is_what_was_said_before_it_was_parsed() -> None:
    choice = Choice()
    choice.add(Delta(request_id="id", text="b", raw_text="<think>a</think>b", token_ids=[1, 2]))
    choice.add(Delta(request_id="id", raw_text="<call>", token_ids=[3]))
    raw = render_raw_output(GENERATION, 0, SHOWN, choice)
    assert (raw["completion"], raw["completion_token_ids"]) == ("<think>a</think>b<call>", [1, 2, 3])
    assert "completion_logprobs" not in raw
