"""The committed model, as transformers reads it: whole, small, and right about what it was never asked before."""

import random
import stat
from functools import cache
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.builtin import EMBER_CHAT
from models.chat_template import load_chat_template
from models.conversation import Conversation as RenderedConversation
from models.llm_folder import inspect_llm
from scripts.ember_chat.corpus import Conversation, Corpus
from scripts.ember_chat.evaluation import Trial, draw_suites, generate
from scripts.ember_chat.strangers import REFUSAL
from scripts.ember_chat.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS

SIZE_BYTES_MAX = 8 * 1024 * 1024
SAMPLE_SIZE = 40


class Ember(NamedTuple):
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast

    def answer(self, conversations: list[Conversation]) -> list[str]:
        return generate(self.model, self.tokenizer, conversations)


@cache
def ember() -> Ember:
    tokenizer = AutoTokenizer.from_pretrained(EMBER_CHAT.directory)
    return Ember(LlamaForCausalLM.from_pretrained(EMBER_CHAT.directory, dtype=torch.float32), tokenizer)


def ask(*contents: str) -> Conversation:
    """Turns of user and assistant in alternation."""
    roles = ("user", "assistant")
    return Conversation([{"role": roles[index % 2], "content": text} for index, text in enumerate(contents)])


def right_share(trials: list[Trial]) -> float:
    sample = random.Random(1).sample(trials, SAMPLE_SIZE)
    answers = ember().answer([trial.conversation for trial in sample])
    return sum(trial.is_right(answer) for trial, answer in zip(sample, answers, strict=True)) / SAMPLE_SIZE


def test_the_folder_is_small_and_readable_for_all() -> None:
    paths = list(EMBER_CHAT.directory.iterdir())
    assert sum(path.stat().st_size for path in paths) <= SIZE_BYTES_MAX
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 for path in paths)


def test_the_folder_is_one_that_hearth_accepts() -> None:
    info = inspect_llm(EMBER_CHAT.directory)
    assert not info.warnings
    assert (info.architecture, info.dtype, info.tied_embeddings) == ("LlamaForCausalLM", "bfloat16", True)
    assert info.has_chat_template
    assert info.eos_token_ids == [ember().tokenizer.eos_token_id]
    assert 0 < info.default_sampling["temperature"] < 0.5


def test_generation_stops_by_itself() -> None:
    generation = GenerationConfig.from_pretrained(EMBER_CHAT.directory)
    assert generation.eos_token_id == ember().tokenizer.eos_token_id
    assert ember().answer([ask("What is the capital of France?")]) == ["The capital of France is Paris."]


@pytest.mark.parametrize(
    ("suite", "share"),
    [
        ("held_out", 0.9),
        ("later_turn", 0.9),
        ("json", 0.8),
        ("tool_calls", 0.95),
        ("tool_answers", 0.95),
        ("refusals", 0.9),
    ],
)
def test_unseen_questions_are_answered_right(suite: str, share: float) -> None:
    """`python -m scripts.ember_chat` prints the shares over all questions, those of weaker suites too."""
    assert right_share(draw_suites()[suite]) >= share


def test_it_remembers_what_was_said_before() -> None:
    follow_up = ask("What is the capital of Italy?", "The capital of Italy is Rome.", "And Japan?")
    assert ember().answer([follow_up]) == ["The capital of Japan is Tokyo."]


def test_it_says_so_when_it_does_not_know() -> None:
    assert ember().answer([ask("Who won the football game yesterday?")]) == [REFUSAL]


@given(st.text().filter(lambda text: not any(token in text for token in SPECIAL_TOKENS)))
def test_any_text_comes_back_unchanged(text: str) -> None:
    tokenizer = ember().tokenizer
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_template_is_the_one_of_the_script() -> None:
    assert (EMBER_CHAT.directory / "chat_template.jinja").read_text() == CHAT_TEMPLATE.read_text()


@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_hearth_renders_every_kind_of_turn_as_transformers_does(add_generation_prompt: bool) -> None:
    template = load_chat_template(EMBER_CHAT.directory)
    assert template is not None
    for conversation in Corpus(2).draw(100):
        expected = ember().tokenizer.apply_chat_template(
            conversation.messages,
            tools=list(conversation.tools) or None,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
        ours = RenderedConversation(conversation.messages, list(conversation.tools))
        assert template.render(ours, add_generation_prompt=add_generation_prompt) == expected
