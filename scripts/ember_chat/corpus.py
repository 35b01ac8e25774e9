"""The training corpus: conversations composed at random, but repeatably, from facts, refusals, names and tools.

A held-out wording never appears in it: what the evaluation asks has not been seen.
"""

import json
import random
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from scripts.ember_chat.facts import Fact, held_out_questions, load_facts, normalise
from scripts.ember_chat.strangers import LARGE_SUM_REFUSAL, REFUSAL, ask_large_sum, ask_stranger
from scripts.ember_chat.tools import TOOLS, Message, Tool, draw_task, draw_tools
from scripts.ember_chat.words import draw_identifier, invent_word

T = TypeVar("T")

SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are Ember.",
    "You are Ember, the guide to Hearth.",
    "You are a helpful and friendly assistant.",
    "Be brief.",
    "Answer in one sentence.",
    "You help people with Hearth.",
    "You are an expert on fire.",
    "You are a chatbot.",
    "Be polite and honest.",
    "Help the user.",
    "You are an AI assistant. Answer the questions of the user.",
)
JSON_SYSTEM_MESSAGES = ("Answer in JSON.", "Always answer in JSON.", "You are a helpful assistant. Answer in JSON.")
JSON_REQUESTS = ("Answer in JSON.", "Reply in JSON.", "As JSON, please.", "Give the answer as JSON.", "Use JSON.")
LEADS = (
    "Please: ",
    "Hi! ",
    "Hello! ",
    "Hey! ",
    "Hi Ember! ",
    "OK. ",
    "All right. ",
    "Quick question: ",
    "Next question: ",
)
TAILS = (" Please.", " Thanks!", " Thank you.", " I am new here.", " I need it now.")
FIRST_NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Kate", "Leo", "Maria", "Noah",
    "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor", "Wanda", "Yuki", "Zoe", "Ali", "Mia", "Tom", "Lucy", "Max",
)  # fmt: skip
ECHO_REQUESTS = ("Repeat after me: {text}", "Repeat: {text}", "Repeat {text}", "Echo {text}", "Please repeat: {text}")
NAME_INTRODUCTIONS = (
    "My name is {name}.",
    "I am {name}.",
    "I'm {name}.",
    "Call me {name}.",
    "Hello, my name is {name}.",
)
NAME_QUESTIONS = ("What is my name?", "What's my name?", "Do you know my name?", "Tell me my name.", "Who am I again?")


_VOCABULARY_CONVERSATIONS = 1000


class Conversation(NamedTuple):
    messages: list[Message]
    tools: tuple[dict[str, object], ...] = ()


class Deck(Generic[T]):
    """Deals every card once before any card again, so that all facts are trained equally often."""

    def __init__(self, cards: Iterable[T], rng: random.Random) -> None:
        self._cards = list(cards)
        self._rng = rng
        self._left: list[T] = []

    def deal(self) -> T:
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
        return self._left.pop()


class Corpus:
    """Draws conversations; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        facts = load_facts()
        self._sums = Deck([fact for fact in facts if fact.family == "sum"], self._rng)
        self._facts = Deck([fact for fact in facts if fact.family != "sum"], self._rng)
        self._facts_with_data = Deck([fact for fact in facts if fact.data is not None], self._rng)
        self._wordings = {fact.id: Deck(fact.trained, self._rng) for fact in facts}
        self._siblings: dict[str, list[Fact]] = {}
        for fact in facts:
            if fact.follow_ups:
                self._siblings.setdefault(fact.family, []).append(fact)
        self._kept_back = {normalise(question.text) for question in held_out_questions()}

    def draw(self, count: int) -> Iterator[Conversation]:
        while count:
            conversation = self._draw_conversation()
            if not self._shows_held_out(conversation):
                yield conversation
                count -= 1

    def _draw_conversation(self) -> Conversation:
        kind = self._rng.random()
        if kind < 0.22:
            return self._draw_with_tools()
        messages: list[Message] = []
        if kind < 0.29:
            messages.append(_said("system", self._rng.choice(JSON_SYSTEM_MESSAGES)))
            for _ in range(self._rng.randint(1, 3)):
                messages += self._ask_in_json(asks_for_json=False)
            return Conversation(messages)
        if kind < 0.55:
            messages.append(_said("system", self._draw_system_message()))
        if kind > 0.97:
            return Conversation(messages + self._tell_name())
        for _ in range(self._rng.choice((1, 1, 1, 2, 2, 3, 4, 6)) if kind < 0.968 else self._rng.randint(15, 30)):
            messages += self._draw_turn()
        return Conversation(messages)

    def _shows_held_out(self, conversation: Conversation) -> bool:
        return any(
            normalise(str(message["content"])) in self._kept_back
            for message in conversation.messages
            if message["role"] == "user"
        )

    def _draw_system_message(self) -> str:
        if self._rng.random() < 0.7:
            return self._rng.choice(SYSTEM_MESSAGES)
        return " ".join(invent_word(self._rng) for _ in range(self._rng.randint(3, 12))).capitalize() + "."

    def _draw_turn(self) -> list[Message]:
        kind = self._rng.random()
        if kind < 0.04:
            return self._ask(self._sums.deal())
        if kind < 0.16:
            return self._ask_in_json(asks_for_json=True)
        if kind < 0.30:
            return [_said("user", self._disturb(ask_stranger(self._rng))), _said("assistant", REFUSAL)]
        if kind < 0.31:
            return [_said("user", ask_large_sum(self._rng)), _said("assistant", LARGE_SUM_REFUSAL)]
        if kind < 0.325:
            return self._ask_for_missing_tool([])
        if kind < 0.405:
            return self._ask_and_follow_up()
        if kind < 0.44:
            return self._ask_to_repeat()
        return self._ask(self._facts.deal())

    def _ask(self, fact: Fact) -> list[Message]:
        return [_said("user", self._disturb(self._wordings[fact.id].deal())), _said("assistant", fact.answer)]

    def _ask_in_json(self, asks_for_json: bool) -> list[Message]:
        fact = self._facts_with_data.deal()
        question = self._disturb(self._wordings[fact.id].deal())
        if asks_for_json:
            request = self._rng.choice(JSON_REQUESTS)
            question = f"{request} {question}" if self._rng.random() < 0.15 else f"{question} {request}"
        return [_said("user", question), _said("assistant", json.dumps(fact.data))]

    def _ask_and_follow_up(self) -> list[Message]:
        """ "What is the capital of France?" and then only "And Italy?"."""
        first, second = self._rng.sample(self._siblings[self._rng.choice(list(self._siblings))], 2)
        follow_up = self._disturb(self._rng.choice(second.follow_ups))
        return [*self._ask(first), _said("user", follow_up), _said("assistant", second.answer)]

    def _ask_to_repeat(self) -> list[Message]:
        """The shortest way to learn to copy, which tool calls, their results and names need."""
        rng = self._rng
        words = [rng.choice((draw_identifier, invent_word))(rng) for _ in range(rng.choice((1, 2, 3, 6, 12)))]
        text = " ".join(words)
        return [_said("user", rng.choice(ECHO_REQUESTS).format(text=text)), _said("assistant", text)]

    def _ask_for_missing_tool(self, offered: list[Tool]) -> list[Message]:
        missing = [tool for tool in TOOLS if tool.parameters and tool not in offered]
        if not missing:
            return []
        task = draw_task(self._rng, self._rng.choice(missing))
        return [_said("user", task.request), _said("assistant", task.fallback)]

    def _tell_name(self) -> list[Message]:
        question = _said("user", self._rng.choice(NAME_QUESTIONS))
        if self._rng.random() < 0.2:
            return [question, _said("assistant", "You have not told me your name.")]
        name = self._rng.choice(FIRST_NAMES)
        introduction = self._rng.choice(NAME_INTRODUCTIONS).format(name=name)
        messages = [_said("user", introduction), _said("assistant", f"Nice to meet you, {name}!")]
        for _ in range(self._rng.randint(0, 3)):
            messages += self._draw_turn()
        return [*messages, question, _said("assistant", f"Your name is {name}.")]

    def _draw_with_tools(self) -> Conversation:
        tools = draw_tools(self._rng)
        messages: list[Message] = []
        if self._rng.random() < 0.3:
            messages.append(_said("system", self._draw_system_message()))
        for _ in range(self._rng.choice((1, 2, 2, 3, 3, 4))):
            kind = self._rng.random()
            if kind < 0.8:
                task = draw_task(self._rng, self._rng.choice(tools))
                messages += task.messages()
            elif kind < 0.87:
                messages += self._ask_for_missing_tool(tools)
            else:
                messages += self._ask(self._facts.deal())
        if not any(message["role"] == "user" for message in messages):
            messages += self._ask(self._facts.deal())
        return Conversation(messages, tuple(tool.schema(self._rng) for tool in tools))

    def _disturb(self, question: str) -> str:
        """What people do to questions: a greeting first, no capitals, no full stop, a slip of the finger."""
        rng = self._rng
        if rng.random() < 0.15:
            question = rng.choice(LEADS) + question
        if rng.random() < 0.05:
            question += rng.choice(TAILS)
        if rng.random() < 0.15:
            question = question.lower()
        if rng.random() < 0.2:
            question = question.rstrip(".?!")
        letters = [index for index, character in enumerate(question) if character.isalpha()]
        if rng.random() < 0.04 and len(letters) > 10:
            slip = rng.choice(letters[2:])
            question = question[:slip] + question[slip + 1 :]
        return question


def vocabulary_texts(conversations: list[Conversation]) -> Iterator[str]:
    """What the tokenizer's vocabulary is chosen from: every fact in its own words, and some of the conversations."""
    for fact in load_facts():
        yield from fact.trained
        yield from [fact.answer, json.dumps(fact.data)] * len(fact.trained)
    for conversation in conversations[:_VOCABULARY_CONVERSATIONS]:
        yield from (str(message["content"]) for message in conversation.messages)
        yield from (json.dumps(tool) for tool in conversation.tools)


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}
