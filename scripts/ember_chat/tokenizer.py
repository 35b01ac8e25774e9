"""The tokenizer: byte-level BPE trained on the corpus, the special tokens of turns, and conversations as token ids.

Every byte has a token, so any text can be encoded and comes back unchanged.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from scripts.ember_chat.corpus import Conversation

VOCAB_SIZE = 2048
CONTEXT_LENGTH = 2048
CHAT_TEMPLATE = Path(__file__).parent / "chat_template.jinja"

PAD, END, ASSISTANT = "<|pad|>", "<|end|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, END, "<|system|>", "<|user|>", ASSISTANT, "<|tool|>")
MARKUP = ("<tools>", "</tools>", "<tool_call>", "</tool_call>")


class Sample(NamedTuple):
    """One conversation in tokens. Only what the assistant says, its end included, is learned."""

    token_ids: list[int]
    is_learned: list[bool]


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    # Digits stay single and a name like `blue-fox` has the same tokens after a space as after a quote, so that copying
    # from the prompt is copying token by token.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r" (?=[a-z]+-[a-z])"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(MARKUP),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Not special: a client's parser must find these in the decoded text.
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKUP])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        chat_template=CHAT_TEMPLATE.read_text(),
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def encode(tokenizer: PreTrainedTokenizerFast, conversations: Iterable[Conversation]) -> list[Sample]:
    """Whole conversations, for training."""
    assistant, end = tokenizer.convert_tokens_to_ids([ASSISTANT, END])
    rendered = [_render(tokenizer, conversation) for conversation in conversations]
    return [
        Sample(token_ids, _mark_answers(token_ids, assistant, end))
        for token_ids in tokenizer(rendered, add_special_tokens=False)["input_ids"]
    ]


def encode_prompts(tokenizer: PreTrainedTokenizerFast, conversations: Iterable[Conversation]) -> list[list[int]]:
    """Conversations that wait for the assistant."""
    rendered = [_render(tokenizer, conversation, add_generation_prompt=True) for conversation in conversations]
    prompts: list[list[int]] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return prompts


def _render(tokenizer: PreTrainedTokenizerFast, conversation: Conversation, add_generation_prompt: bool = False) -> str:
    rendered: str = tokenizer.apply_chat_template(
        conversation.messages,
        tools=list(conversation.tools) or None,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
    )
    return rendered


def _mark_answers(token_ids: list[int], assistant: int, end: int) -> list[bool]:
    is_learned, inside = [], False
    for token_id in token_ids:
        is_learned.append(inside)
        if token_id == assistant:
            inside = True
        elif token_id == end:
            inside = False
    return is_learned
