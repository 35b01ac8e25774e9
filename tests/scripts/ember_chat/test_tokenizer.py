import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from scripts.ember_chat.corpus import Conversation, Corpus, vocabulary_texts
from scripts.ember_chat.tokenizer import END, SPECIAL_TOKENS, VOCAB_SIZE, encode, encode_prompts, train_tokenizer

CONVERSATIONS = list(Corpus(0).draw(200))
TOKENIZER: PreTrainedTokenizerFast = train_tokenizer(vocabulary_texts(CONVERSATIONS))


def test_the_vocabulary_has_its_size_and_its_special_tokens_first() -> None:
    assert len(TOKENIZER) == VOCAB_SIZE
    assert TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))


@given(st.text().filter(lambda text: not any(token in text for token in SPECIAL_TOKENS)))
def test_any_text_comes_back_unchanged(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False)["input_ids"]) == text


def test_only_what_the_assistant_says_is_learned() -> None:
    conversation = Conversation(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "Bye!"},
            {"role": "assistant", "content": "Goodbye."},
        ]
    )
    (sample,) = encode(TOKENIZER, [conversation])
    learned = [id for id, is_learned in zip(sample.token_ids, sample.is_learned, strict=True) if is_learned]
    assert TOKENIZER.decode(learned) == f"Hi.{END}Goodbye.{END}"


def test_tool_calls_are_learned_and_tool_results_are_not() -> None:
    conversation = next(c for c in CONVERSATIONS if any(message["role"] == "tool" for message in c.messages))
    (sample,) = encode(TOKENIZER, [conversation])
    learned = TOKENIZER.decode([id for id, learn in zip(sample.token_ids, sample.is_learned, strict=True) if learn])
    assert learned.startswith('<tool_call>{"name": ')
    assert '"error"' not in learned


@pytest.mark.parametrize("index", range(0, 200, 20))
def test_a_prompt_is_the_beginning_of_its_conversation(index: int) -> None:
    conversation = CONVERSATIONS[index]
    (whole,) = encode(TOKENIZER, [conversation])
    (prompt,) = encode_prompts(TOKENIZER, [Conversation(conversation.messages[:-1], conversation.tools)])
    assert whole.token_ids[: len(prompt)] == prompt
