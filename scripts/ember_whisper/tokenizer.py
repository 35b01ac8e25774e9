"""The tokenizer: Whisper's byte-level BPE and special tokens, with one token for every word that is trained."""

from typing import NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from scripts.ember_whisper.phrases import VOCABULARY

END, START, PREVIOUS = "<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>"
NO_SPEECH, NO_TIMESTAMPS = "<|nospeech|>", "<|notimestamps|>"
SPECIAL_TOKENS = (
    END, START, "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", PREVIOUS, NO_SPEECH, NO_TIMESTAMPS
)  # fmt: skip
"""In the order of the real ones; faster-whisper takes what comes before the first for text, and times for the rest."""
NUM_TIMESTAMPS = 1501
TIMESTAMP_S = 0.02


class Vocabulary(NamedTuple):
    """The tokens that a window of speech is written with."""

    tokenizer: Tokenizer
    words: dict[str, int]
    end: int
    start: int
    previous: int
    no_speech: int
    no_timestamps: int
    size: int

    def timestamp(self, seconds: float) -> int:
        return self.no_timestamps + 1 + min(round(seconds / TIMESTAMP_S), NUM_TIMESTAMPS - 1)


def train_tokenizer() -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((" " + word for word in VOCABULARY for _ in range(2)), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    words = {word: tokenizer.encode(" " + word).ids for word in VOCABULARY}
    split = [word for word, token_ids in words.items() if len(token_ids) > 1]
    if split:
        raise ValueError(f"words of several tokens: {split}")
    end, start, previous, no_speech, no_timestamps = (
        _known(tokenizer, token) for token in (END, START, PREVIOUS, NO_SPEECH, NO_TIMESTAMPS)
    )
    return Vocabulary(
        tokenizer,
        {word: token_ids[0] for word, token_ids in words.items()},
        end,
        start,
        previous,
        no_speech,
        no_timestamps,
        tokenizer.get_vocab_size() + NUM_TIMESTAMPS,
    )


def _known(tokenizer: Tokenizer, token: str) -> int:
    token_id = tokenizer.token_to_id(token)
    assert token_id is not None
    return int(token_id)
