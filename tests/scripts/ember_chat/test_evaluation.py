import json

import torch

from scripts.ember_chat.corpus import Conversation, Corpus, vocabulary_texts
from scripts.ember_chat.evaluation import Outcome, draw_suites, generate, right_share
from scripts.ember_chat.facts import held_out_questions, load_facts
from scripts.ember_chat.tokenizer import train_tokenizer
from tests.scripts.ember_chat.tiny_llama import tiny_llama


def test_the_suites_ask_every_held_out_question() -> None:
    suites = draw_suites()
    asked = [trial.conversation.messages[-1]["content"] for trial in suites["held_out"]]
    assert asked == [question.text for question in held_out_questions()]
    assert set(suites) == {"held_out", "later_turn", "json", "tool_calls", "tool_answers", "refusals"}


def test_only_the_fact_itself_is_right() -> None:
    fact = load_facts()[0]
    (trial,) = [
        trial for trial in draw_suites()["held_out"] if trial.conversation.messages[0]["content"] == fact.held_out[0]
    ]
    assert trial.is_right(fact.answer)
    assert not trial.is_right("I do not know.")


def test_only_the_exact_call_is_right() -> None:
    trial = draw_suites()["tool_calls"][0]
    assert not trial.is_right("")
    assert not trial.is_right("<tool_call>{</tool_call>")
    assert not trial.is_right('<tool_call>{"name": "x", "arguments": {}}</tool_call>')
    assert not trial.is_right(json.dumps({"name": "x"}))


def test_the_share_counts_one_suite() -> None:
    outcomes = [Outcome("json", "", "", True), Outcome("json", "", "", False), Outcome("held_out", "", "", True)]
    assert right_share(outcomes, "json") == 0.5


def test_answers_in_a_batch_are_those_of_each_alone() -> None:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(vocabulary_texts([]))
    model = tiny_llama(len(tokenizer))
    conversations = [Conversation(c.messages[:-1], c.tools) for c in Corpus(0).draw(4)]
    alone = [generate(model, tokenizer, [conversation])[0] for conversation in conversations]
    assert generate(model, tokenizer, conversations) == alone
