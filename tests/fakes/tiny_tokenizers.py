"""Small tokenizers of the two families that language models use, made on the spot and without torch."""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

BEGIN_TOKEN, END_TOKEN, PLAIN_ADDED_TOKEN = "<|begin|>", "<|end|>", "<call me>"
_TEXT = "the hearth, the ember; die Glut: glühend — 炉火は暖かい。炉火 🔥🔥 👩‍🚒 👩‍🚒 привет, привет"


def build_byte_level_tokenizer() -> Any:
    """Merges of bytes across and inside characters; one special token at either end, one added token that is text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=[BEGIN_TOKEN, END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT] * 3, trainer)
    tokenizer.add_tokens([AddedToken(PLAIN_ADDED_TOKEN, special=False)])
    return tokenizer


def build_sentencepiece_tokenizer() -> Any:
    """Pieces that begin with the space before them; a character without a piece falls back to its bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnoprstuwü炉."]
    merges = [("▁", "t"), ("t", "h"), ("▁", "th"), ("▁th", "e"), ("e", "r"), ("▁", "▁"), ("▁▁", "▁▁"), ("▁", "炉")]
    vocab = {piece: i for i, piece in enumerate([*pieces, *(left + right for left, right in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer
