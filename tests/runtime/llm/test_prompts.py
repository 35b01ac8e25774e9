from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine import RequestRefused
from runtime.llm.prompts import Prompts
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import (
    ChatMessage,
    ChatPrompt,
    FailureCode,
    TextPrompt,
    TokenPrompt,
    ToolCall,
    ToolCallFunction,
)
from tests.fakes.text_model import CHAT_TEMPLATE, text_model_info, write_text_model
from tests.fakes.tiny_tokenizers import BEGIN_TOKEN, END_TOKEN, build_byte_level_tokenizer

TOKENIZER = build_byte_level_tokenizer()
VOCAB_SIZE = TOKENIZER.get_vocab_size()
MAX_NUM_TOKENS = 40


def build(directory: Path, *, bos_token: str | None = None, chat_template: str | None = None) -> Prompts:
    write_text_model(directory, TOKENIZER, bos_token=bos_token, chat_template=chat_template)
    info = text_model_info(vocab_size=VOCAB_SIZE, eos_token_ids=[1], has_chat_template=chat_template is not None)
    return Prompts(directory, info, Vocabulary.load(directory), MAX_NUM_TOKENS)


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
    token_ids = chat_prompts.token_ids(chat(ChatMessage(role="user", content="hi")))
    assert TOKENIZER.decode(token_ids, skip_special_tokens=False) == f"user: hi{END_TOKEN}assistant:"
    assert TOKENIZER.token_to_id(END_TOKEN) in token_ids


def test_tool_calls_reach_the_template_with_arguments_as_objects(chat_prompts: Prompts) -> None:
    function = ToolCallFunction(name="f", arguments='{"town": "U"}')
    message = ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", function=function)])
    token_ids = chat_prompts.token_ids(chat(message))
    assert TOKENIZER.decode(token_ids) == "assistant: function f(U)assistant:"


def test_what_the_template_refuses_is_refused_in_its_words(chat_prompts: Prompts) -> None:
    with pytest.raises(RequestRefused, match="the system message must come first") as refusal:
        chat_prompts.token_ids(chat(ChatMessage(role="user"), ChatMessage(role="system")))
    assert (refusal.value.code, refusal.value.param) == (FailureCode.INVALID, "messages")


def test_arguments_that_are_no_object_stay_text(chat_prompts: Prompts) -> None:
    function = ToolCallFunction(name="f", arguments="not JSON")
    with pytest.raises(RequestRefused) as refusal:  # this template wants an object
        chat_prompts.token_ids(chat(ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", function=function)])))
    assert refusal.value.param == "messages"


def test_a_model_without_a_template_completes_only(prompts: Prompts) -> None:
    with pytest.raises(RequestRefused, match="no chat template"):
        prompts.token_ids(chat(ChatMessage(role="user", content="hi")))
    assert TOKENIZER.decode(prompts.token_ids(TextPrompt(text="hi"))) == "hi"


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE, VOCAB_SIZE + 1, 2**63 - 1])
def test_token_ids_that_the_model_does_not_have_are_refused(prompts: Prompts, token_id: int) -> None:
    with pytest.raises(RequestRefused, match="token ids must be between 0 and") as refusal:
        prompts.token_ids(TokenPrompt(token_ids=[0, token_id]))
    assert refusal.value.param == "prompt"
    assert prompts.token_ids(TokenPrompt(token_ids=[0, VOCAB_SIZE - 1])) == [0, VOCAB_SIZE - 1]


@pytest.mark.parametrize("prompt", [TextPrompt(text=""), TokenPrompt(token_ids=[])])
def test_an_empty_prompt_needs_a_token_to_begin_with(tmp_path: Path, prompt: TextPrompt | TokenPrompt) -> None:
    with pytest.raises(RequestRefused, match="empty"):
        build(tmp_path).token_ids(prompt)
    begin = TOKENIZER.token_to_id(BEGIN_TOKEN)
    assert build(tmp_path, bos_token=BEGIN_TOKEN).token_ids(prompt) == [begin]
    assert build(tmp_path, bos_token=BEGIN_TOKEN).token_ids(TokenPrompt(token_ids=[5])) == [5]


def test_a_prompt_that_leaves_no_room_is_refused_with_the_counts(prompts: Prompts) -> None:
    fits = [5] * MAX_NUM_TOKENS
    assert prompts.token_ids(TokenPrompt(token_ids=fits)) == fits
    with pytest.raises(RequestRefused, match=r"prompt is too long: 41 tokens.* 40 tokens") as refusal:
        prompts.token_ids(TokenPrompt(token_ids=[*fits, 5]))
    assert (refusal.value.code, refusal.value.param) == (FailureCode.INVALID, "prompt")


def test_a_huge_text_is_refused_before_it_is_tokenised(prompts: Prompts) -> None:
    with pytest.raises(RequestRefused, match=r"prompt is too long: 10000000 characters"):
        prompts.token_ids(TextPrompt(text="x" * 10_000_000))
