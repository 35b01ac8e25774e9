import json
import random

from scripts.ember_chat.corpus import LEADS, TAILS, Corpus, Deck, vocabulary_texts
from scripts.ember_chat.facts import held_out_questions, load_facts, normalise

NUM_CONVERSATIONS = 6000


def test_the_same_seed_gives_the_same_conversations() -> None:
    assert list(Corpus(5).draw(200)) == list(Corpus(5).draw(200))
    assert list(Corpus(5).draw(200)) != list(Corpus(6).draw(200))


def test_held_out_questions_never_appear_in_training() -> None:
    kept_back = {normalise(question.text) for question in held_out_questions()}
    kept_back |= {normalise(lead + question.text) for question in held_out_questions() for lead in LEADS}
    kept_back |= {normalise(question.text + tail) for question in held_out_questions() for tail in TAILS}
    conversations = list(Corpus(0).draw(NUM_CONVERSATIONS))
    asked = {
        normalise(str(message["content"]))
        for conversation in conversations
        for message in conversation.messages
        if message["role"] == "user"
    }
    assert not asked & kept_back
    assert not {normalise(text) for text in vocabulary_texts(conversations)} & kept_back


def test_every_fact_is_trained() -> None:
    answers = {
        str(message["content"])
        for conversation in Corpus(0).draw(NUM_CONVERSATIONS)
        for message in conversation.messages
        if message["role"] == "assistant"
    }
    assert not [fact.id for fact in load_facts() if fact.answer not in answers]
    assert json.dumps({"country": "France", "capital": "Paris"}) in answers


def test_conversations_end_with_the_assistant_and_show_every_kind_of_turn() -> None:
    conversations = list(Corpus(0).draw(2000))
    assert all(conversation.messages[-1]["role"] == "assistant" for conversation in conversations)
    roles = {message["role"] for conversation in conversations for message in conversation.messages}
    assert roles == {"system", "user", "assistant", "tool"}
    assert any(conversation.tools for conversation in conversations)
    assert any(len(conversation.messages) > 20 for conversation in conversations)


def test_a_deck_deals_every_card_before_any_again() -> None:
    deck = Deck(range(5), random.Random(0))
    assert sorted(deck.deal() for _ in range(5)) == list(range(5))
    assert sorted(deck.deal() for _ in range(5)) == list(range(5))
