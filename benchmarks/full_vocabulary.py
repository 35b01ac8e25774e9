"""A tokenizer as large as those of real models, made of a tiny one: reading it is a part of a cold start."""

import json
import random
from pathlib import Path

TOKEN_LENGTH_MAX = 16


def write_full_vocabulary(tiny: Path, path: Path, num_tokens: int) -> None:
    """`tiny` is a tokenizer.json of byte-level BPE; tokens are added, each made of two others, up to `num_tokens`."""
    tokenizer = json.loads(tiny.read_text())
    vocabulary, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    added = {token["content"] for token in tokenizer["added_tokens"]}
    tokens = [token for token in vocabulary if token not in added]
    generator = random.Random(0)
    while len(vocabulary) < num_tokens:
        first, second = generator.choice(tokens), generator.choice(tokens)
        merged = first + second
        if len(merged) <= TOKEN_LENGTH_MAX and merged not in vocabulary:
            vocabulary[merged] = len(vocabulary)
            merges.append([first, second])
            tokens.append(merged)
    path.write_text(json.dumps(tokenizer, ensure_ascii=False))
