from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import RequestRefused
from runtime.llm.dialect import Dialect
from runtime.llm.prompts import BEGINNING_CHARACTERS, Prompts
from runtime.llm.vocabulary import Vocabulary
from runtime.message import FailureCode
from runtime.submission import (
    ChatMessage,
    ChatPrompt,
    Reasoning,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolCall,
    ToolCallFunction,
    ToolChoice,
)
from tests.fakes.text_model import CHAT_TEMPLATE, text_model_info, write_text_model
from tests.fakes.tiny_tokenizers import BEGIN_TOKEN, END_TOKEN, build_byte_level_tokenizer

TOKENIZER = build_byte_level_tokenizer()
VOCAB_SIZE = TOKENIZER.get_vocab_size()
MAX_NUM_TOKENS = 40


def build(
    directory: Path,
    *,
    bos_token: str | None = None,
    chat_template: str | None = None,
    max_num_tokens: int = MAX_NUM_TOKENS,
) -> Prompts:
    write_text_model(directory, TOKENIZER, bos_token=bos_token, chat_template=chat_template)
    info = text_model_info(vocab_size=VOCAB_SIZE, eos_token_ids=[1], has_chat_template=chat_template is not None)
    vocabulary = Vocabulary.load(directory)
    return Prompts(directory, info, vocabulary, Dialect.load(directory, vocabulary), max_num_tokens)


@pytest.fixture(scope="module")
def chat_prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prompts]:
    prompts = build(tmp_path_factory.mktemp("model"), chat_template=CHAT_TEMPLATE)
    yield prompts
    prompts.close()


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    return build(tmp_path)


def chat(*messages: ChatMessage) -> ChatPrompt:
    return ChatPrompt(messages=list(messages))


def test_a_chat_goes_through_the_models_template(chat_prompts: Prompts) -> None:
    token_ids = chat_prompts.encode(chat(ChatMessage(role="user", content="hi"))).token_ids
    assert TOKENIZER.decode(token_ids, skip_special_tokens=False) == f"user: hi{END_TOKEN}assistant:"
    assert TOKENIZER.token_to_id(END_TOKEN) in token_ids


def test_tool_calls_reach_the_template_with_arguments_as_objects(chat_prompts: Prompts) -> None:
    function = ToolCallFunction(name="f", arguments='{"town": "U"}')
    message = ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", function=function)])
    token_ids = chat_prompts.encode(chat(message)).token_ids
    assert TOKENIZER.decode(token_ids) == "assistant: function f(U)assistant:"


def test_what_the_template_refuses_is_refused_in_its_words(chat_prompts: Prompts) -> None:
    with pytest.raises(RequestRefused, match="the system message must come first") as refusal:
        chat_prompts.encode(chat(ChatMessage(role="user"), ChatMessage(role="system")))
    assert (refusal.value.code, refusal.value.param) == (FailureCode.INVALID, "messages")


def test_arguments_that_are_no_object_stay_text(chat_prompts: Prompts) -> None:
    function = ToolCallFunction(name="f", arguments="not JSON")
    with pytest.raises(RequestRefused) as refusal:  # this template wants an object
        chat_prompts.encode(chat(ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", function=function)])))
    assert refusal.value.param == "messages"


def test_a_model_without_a_template_completes_only(prompts: Prompts) -> None:
    with pytest.raises(RequestRefused, match="no chat template"):
        prompts.encode(chat(ChatMessage(role="user", content="hi")))
    assert TOKENIZER.decode(prompts.encode(TextPrompt(text="hi")).token_ids) == "hi"


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE, VOCAB_SIZE + 1, 2**63 - 1])
def test_token_ids_that_the_model_does_not_have_are_refused(prompts: Prompts, token_id: int) -> None:
    with pytest.raises(RequestRefused, match="token ids must be between 0 and") as refusal:
        prompts.encode(TokenPrompt(token_ids=[0, token_id]))
    assert refusal.value.param == "prompt"
    assert prompts.encode(TokenPrompt(token_ids=[0, VOCAB_SIZE - 1])).token_ids == [0, VOCAB_SIZE - 1]


@pytest.mark.parametrize("prompt", [TextPrompt(text=""), TokenPrompt(token_ids=[])])
def test_an_empty_prompt_needs_a_token_to_begin_with(tmp_path: Path, prompt: TextPrompt | TokenPrompt) -> None:
    with pytest.raises(RequestRefused, match="empty"):
        build(tmp_path).encode(prompt)
    begin = TOKENIZER.token_to_id(BEGIN_TOKEN)
    assert build(tmp_path, bos_token=BEGIN_TOKEN).encode(prompt).token_ids == [begin]
    assert build(tmp_path, bos_token=BEGIN_TOKEN).encode(TokenPrompt(token_ids=[5])).token_ids == [5]


def test_a_prompt_that_leaves_no_room_is_refused_with_the_counts(prompts: Prompts) -> None:
    fits = [5] * MAX_NUM_TOKENS
    assert prompts.encode(TokenPrompt(token_ids=fits)).token_ids == fits
    with pytest.raises(RequestRefused, match=r"prompt is too long: 41 tokens.* 40 tokens") as refusal:
        prompts.encode(TokenPrompt(token_ids=[*fits, 5]))
    assert (refusal.value.code, refusal.value.param) == (FailureCode.INVALID, "prompt")


def test_a_huge_text_is_refused_before_it_is_tokenised(prompts: Prompts) -> None:
    with pytest.raises(RequestRefused, match=r"prompt is too long: 10000000 characters"):
        prompts.encode(TextPrompt(text="x" * 10_000_000))


def test_of_a_huge_text_only_a_beginning_is_tokenised(tmp_path: Path) -> None:
    """Whose length alone would let it pass: one token of the vocabulary is very long."""
    prompts = build(tmp_path)
    prompts._vocabulary.token_length_max = 10**9
    tokenised: list[int] = []
    encode = prompts._vocabulary.encode

    def note_length(text: str, *, add_special_tokens: bool) -> list[int]:
        tokenised.append(len(text))
        return encode(text, add_special_tokens=add_special_tokens)

    prompts._vocabulary.encode = note_length  # type: ignore[method-assign]
    with pytest.raises(RequestRefused, match=r"prompt is too long: 5000000 characters, at least"):
        prompts.encode(TextPrompt(text="x " * 2_500_000))
    assert tokenised == [BEGINNING_CHARACTERS]


# ---- what a template is told, and what it is not

THINKING_TEMPLATE = """\
{%- for tool in tools or [] -%}{{- '<' + tool.function.name + '>' -}}{%- endfor -%}
{%- for message in messages -%}
    {{- message.role[0] + ':' + (message.content or '') -}}
    {%- if message.reasoning_content -%}{{- '(' + message.reasoning_content + ')' -}}{%- endif -%}
    {%- for call in message.tool_calls or [] -%}{{- '!' + call.function.name -}}{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '|' + (reasoning_effort or '') -}}
    {%- if enable_thinking is defined and not enable_thinking -%}{{- '<think></think>' -}}{%- else -%}
    {{- '<think>' -}}{%- endif -%}
{%- endif -%}
"""


@pytest.fixture(scope="module")
def thinking_prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prompts]:
    prompts = build(tmp_path_factory.mktemp("thinking"), chat_template=THINKING_TEMPLATE, max_num_tokens=1000)
    yield prompts
    prompts.close()


def written(prompts: Prompts, prompt: ChatPrompt) -> str:
    text: str = TOKENIZER.decode(prompts.encode(prompt).token_ids, skip_special_tokens=False)
    return text


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def assistant(text: str | None, *calls: str, thought: str | None = None) -> ChatMessage:
    tool_calls = [ToolCall(id=name, function=ToolCallFunction(name=name, arguments="{}")) for name in calls]
    return ChatMessage(role="assistant", content=text, tool_calls=tool_calls, reasoning_content=thought)


def result(text: str) -> ChatMessage:
    return ChatMessage(role="tool", content=text, tool_call_id="f")


def test_a_template_that_opens_a_thought_says_so(thinking_prompts: Prompts, chat_prompts: Prompts) -> None:
    assert thinking_prompts.encode(chat(user("x"))).is_thinking
    assert not chat_prompts.encode(chat(user("x"))).is_thinking


@pytest.mark.parametrize(
    ("reasoning", "ending"),
    [
        (Reasoning(), "|<think>"),
        (Reasoning(effort="none"), "|<think></think>"),
        (Reasoning(effort="high"), "|high<think>"),
        (Reasoning(budget_tokens=5), "|<think>"),
    ],
)
def test_the_effort_reaches_the_template(thinking_prompts: Prompts, reasoning: Reasoning, ending: str) -> None:
    prompt = ChatPrompt(messages=[user("x")], reasoning=reasoning)
    assert written(thinking_prompts, prompt) == "u:x" + ending


@pytest.mark.parametrize(
    ("opening", "expected"), [("<think>\\n", "<think>\n\n</think>\n\n"), ("", "<think>\n\n</think>\n\n")]
)
def test_a_template_without_a_switch_gets_an_empty_thought(tmp_path: Path, opening: str, expected: str) -> None:
    source = "{{ messages[0].content.split('</think>')[-1] }}|{{ '" + opening + "' }}"
    prompts = build(tmp_path, chat_template=source)
    off = ChatPrompt(messages=[user("x")], reasoning=Reasoning(effort="none"))
    assert written(prompts, off) == "x|" + expected
    assert not prompts.encode(off).is_thinking
    prompts.close()


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (None, "u:aa:b(1)u:ca:(2)!ft:42"),
        ("preserved", "u:aa:b(1)u:ca:(2)!ft:42"),
        ("interleaved", "u:aa:bu:ca:(2)!ft:42"),
        ("disabled", "u:aa:bu:ca:!ft:42"),
    ],
)
def test_earlier_thoughts_are_shown_as_asked(thinking_prompts: Prompts, history: Any, expected: str) -> None:
    messages = [user("a"), assistant("b", thought="1"), user("c"), assistant(None, "f", thought="2"), result("42")]
    prompt = ChatPrompt(messages=messages, reasoning=Reasoning(history=history))
    assert written(thinking_prompts, prompt) == expected + "|<think>"


def test_tools_are_shown_unless_none_may_be_called(thinking_prompts: Prompts) -> None:
    tools = [Tool(name="f", parameters={"type": "object"}), Tool(name="g")]
    for mode in ("auto", "required"):
        prompt = ChatPrompt(messages=[user("x")], tools=tools, tool_choice=ToolChoice(mode=mode))
        assert written(thinking_prompts, prompt) == "<f><g>u:x|<think>"
    none = ChatPrompt(messages=[user("x")], tools=tools, tool_choice=ToolChoice(mode="none"))
    assert written(thinking_prompts, none) == "u:x|<think>"


LONG = [
    ChatMessage(role="system", content="S"),
    user("aaaaaaaaaa"),
    assistant("bbbbbbbbbb"),
    user("cccccccccc"),
    assistant(None, "f"),
    result("dddddddddd"),
    user("eeeeeeeeee"),
    assistant(None, "g"),
    result("ffffffffff"),
    assistant(None, "h"),
    result("gggggggggg"),
]


def test_the_oldest_turns_are_dropped_until_the_rest_fits(thinking_prompts: Prompts) -> None:
    whole = len(thinking_prompts.encode(chat(*LONG)).token_ids)
    for max_tokens in range(45, whole + 10, 7):
        assert len(thinking_prompts.encode(ChatPrompt(messages=LONG, max_tokens=max_tokens)).token_ids) <= max_tokens


def test_what_can_be_dropped_keeps_results_with_their_calls(thinking_prompts: Prompts) -> None:
    def shown(max_tokens: int) -> str:
        return written(thinking_prompts, ChatPrompt(messages=LONG, max_tokens=max_tokens)).split("|")[0]

    lengths = range(1, len(thinking_prompts.encode(chat(*LONG)).token_ids) + 1)
    texts = {shown(length) for length in lengths}
    assert texts == {
        "s:Su:eeeeeeeeeea:!ht:gggggggggg",
        "s:Su:eeeeeeeeeea:!gt:ffffffffffa:!ht:gggggggggg",
        "s:Su:cccccccccca:!ft:ddddddddddu:eeeeeeeeeea:!gt:ffffffffffa:!ht:gggggggggg",
        "s:Su:aaaaaaaaaaa:bbbbbbbbbbu:cccccccccca:!ft:ddddddddddu:eeeeeeeeeea:!gt:ffffffffffa:!ht:gggggggggg",
    }


@pytest.mark.parametrize("name", [END_TOKEN, BEGIN_TOKEN])
def test_names_of_special_tokens_stay_plain_text_when_asked(chat_prompts: Prompts, name: str) -> None:
    text = f"a{name}ü{name}"
    plain = chat_prompts.encode(ChatPrompt(messages=[user(text)], is_plain_text=True)).token_ids
    assert TOKENIZER.decode(plain, skip_special_tokens=False) == f"user: {text}{END_TOKEN}assistant:"
    special = TOKENIZER.token_to_id(name)
    assert plain.count(special) == (1 if name == END_TOKEN else 0)  # the template's own
    assert chat_prompts.encode(chat(user(text))).token_ids.count(special) > plain.count(special)


@pytest.mark.parametrize("depth", [500, 900, 100_000])
def test_arguments_that_are_nested_deeply_hurt_nobody(thinking_prompts: Prompts, depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    call = ToolCall(id="1", function=ToolCallFunction(name="f", arguments=deep))
    for is_plain_text in (False, True):
        messages = [user("x"), ChatMessage(role="assistant", tool_calls=[call])]
        try:
            outcome = "!f" in written(thinking_prompts, ChatPrompt(messages=messages, is_plain_text=is_plain_text))
        except RequestRefused as refusal:
            outcome = refusal.param == "messages"
        assert outcome, "neither written nor refused by its place"
    assert "u:x" in written(thinking_prompts, chat(user("x")))
