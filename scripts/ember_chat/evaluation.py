"""Asks the model what it was never trained on and counts right answers. Greedy, so that the figures can be repeated."""

import json
import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.ember_chat.corpus import JSON_REQUESTS, SYSTEM_MESSAGES, Conversation
from scripts.ember_chat.facts import Fact, Question, load_facts
from scripts.ember_chat.strangers import held_out_strangers
from scripts.ember_chat.tokenizer import encode_prompts
from scripts.ember_chat.tools import Message, draw_task, draw_tools

MAX_NEW_TOKENS = 96
_BATCH_SIZE = 64
_SUITE_SIZE = 200


class Trial(NamedTuple):
    """A conversation that waits for an answer, and whether an answer is right."""

    conversation: Conversation
    is_right: Callable[[str], bool]


class Outcome(NamedTuple):
    suite: str
    prompt: str
    """The last message, for reading what went wrong."""
    answer: str
    is_right: bool


def evaluate(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> list[Outcome]:
    return [
        outcome for suite, trials in draw_suites().items() for outcome in run_suite(model, tokenizer, suite, trials)
    ]


def run_suite(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, suite: str, trials: list[Trial]
) -> list[Outcome]:
    answers = generate(model, tokenizer, [trial.conversation for trial in trials])
    return [
        Outcome(suite, str(trial.conversation.messages[-1]["content"]), answer, trial.is_right(answer))
        for trial, answer in zip(trials, answers, strict=True)
    ]


def right_share(outcomes: list[Outcome], suite: str) -> float:
    of_suite = [outcome.is_right for outcome in outcomes if outcome.suite == suite]
    return sum(of_suite) / len(of_suite)


def draw_suites() -> dict[str, list[Trial]]:
    rng = random.Random("evaluation")
    questions = [(fact, wording) for fact in load_facts() for wording in fact.held_out]
    with_data = [(fact, wording) for fact, wording in questions if fact.data is not None]
    return {
        "held_out": [_ask(fact, wording) for fact, wording in questions],
        "later_turn": [_ask_later(*pair, rng) for pair in rng.sample(questions, _SUITE_SIZE)],
        "json": [_ask_in_json(*pair, rng) for pair in rng.sample(with_data, _SUITE_SIZE)],
        "tool_calls": [_ask_for_call(rng) for _ in range(_SUITE_SIZE)],
        "tool_answers": [_ask_for_tool_answer(rng) for _ in range(_SUITE_SIZE)],
        "refusals": [
            Trial(Conversation([_user(question.text)]), question.is_answered_by)
            for question in held_out_strangers(_SUITE_SIZE, rng)
        ],
    }


@torch.inference_mode()
def generate(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, conversations: list[Conversation]
) -> list[str]:
    """Greedy answers, in the order of the conversations; neighbours in length share a batch."""
    model.eval()
    prompts = encode_prompts(tokenizer, conversations)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), _BATCH_SIZE):
        chosen = order[start : start + _BATCH_SIZE]
        batch = tokenizer.pad({"input_ids": [prompts[index] for index in chosen]}, return_tensors="pt")
        output = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, temperature=None)
        texts = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for index, text in zip(chosen, texts, strict=True):
            answers[index] = text
    return answers


def _ask(fact: Fact, wording: str) -> Trial:
    return Trial(Conversation([_user(wording)]), Question(wording, fact.key).is_answered_by)


def _ask_later(fact: Fact, wording: str, rng: random.Random) -> Trial:
    """After one or two other questions, half of the time under a system message."""
    messages: list[Message] = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_MESSAGES)})
    for earlier in rng.sample(load_facts(), rng.randint(1, 2)):
        messages += [_user(earlier.held_out[0]), {"role": "assistant", "content": earlier.answer}]
    return Trial(Conversation([*messages, _user(wording)]), Question(wording, fact.key).is_answered_by)


def _ask_in_json(fact: Fact, wording: str, rng: random.Random) -> Trial:
    def is_right(answer: str) -> bool:
        return _parse(answer) == fact.data

    return Trial(Conversation([_user(f"{wording} {rng.choice(JSON_REQUESTS)}")]), is_right)


def _ask_for_call(rng: random.Random) -> Trial:
    tools = draw_tools(rng)
    task = draw_task(rng, rng.choice(tools), is_held_out=True)

    def is_right(answer: str) -> bool:
        call = _parse(answer.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        return call == {"name": task.name, "arguments": task.arguments} and answer.startswith("<tool_call>")

    return Trial(Conversation([_user(task.request)], tuple(tool.schema(rng) for tool in tools)), is_right)


def _ask_for_tool_answer(rng: random.Random) -> Trial:
    tools = draw_tools(rng)
    task = draw_task(rng, rng.choice(tools), is_held_out=True)
    return Trial(
        Conversation(task.messages()[:-1], tuple(tool.schema(rng) for tool in tools)),
        lambda answer: answer == task.answer,
    )


def _parse(text: str) -> object:
    """None for what is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _user(content: str) -> Message:
    return {"role": "user", "content": content}
