"""Tokens per second with a client's prediction against none, in pairs: most of it holds, none of it, bits of it.

The model has the shape of Qwen2.5-0.5B, its head untied. Its weights are random, but such that each token has one
successor far ahead of all others: what it says is then no matter of rounding, and how much of a prediction holds is
known. One JSON line per row, with the medians and each pair's own ratio to show the noise.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.in_process import load_in_process
from runtime.engine import LoadedEngine
from runtime.protocol import Delta, Performance, Submit
from runtime.submission import SamplingParams, TokenPrompt

MODEL_FOLDER = "qwen2.5-0.5b-shape-with-successors"
VOCAB_SIZE = 151_936
NUM_PROMPT_TOKENS = 128
CONTEXT_LENGTH = 2048
MAX_BATCH_TOKENS = 512
MAX_NUM_REQUESTS = 4

Predict = Callable[[list[int], random.Random], list[int]]


class Row(NamedTuple):
    name: str
    predict: Predict
    """From what the model will say."""
    target: str


def edited(answer: list[int], chance: random.Random) -> list[int]:
    """Every tenth token another one, at random places."""
    places = set(chance.sample(range(len(answer)), len(answer) // 10))
    return [chance.randrange(10, VOCAB_SIZE) if i in places else token_id for i, token_id in enumerate(answer)]


def wrong(answer: list[int], chance: random.Random) -> list[int]:
    return [chance.randrange(10, VOCAB_SIZE) for _ in answer]


def misleading(answer: list[int], chance: random.Random) -> list[int]:
    """Pairs of the answer's tokens, each followed by two wrong ones: the place is found again and again, in vain."""
    return [token_id if i % 4 < 2 else chance.randrange(10, VOCAB_SIZE) for i, token_id in enumerate(answer)]


ROWS = [
    Row("nine_tenths_of_the_prediction_hold", edited, "ratio at least 2"),
    Row("nothing_of_the_prediction_holds", wrong, "ratio at least 0.87: a cost of 15 %"),
    Row("bits_of_the_prediction_hold", misleading, "ratio at least 0.87: a cost of 15 %"),
]


class Run(NamedTuple):
    token_ids: list[int]
    tokens_per_s: float
    """After the first token."""
    performance: Performance


def main() -> None:
    arguments = _parse_arguments()
    directory = arguments.directory / MODEL_FOLDER
    make_checkpoint(directory)
    loaded = load_in_process(
        directory,
        max_context_length=CONTEXT_LENGTH,
        concurrency=2,
        max_batch_tokens=MAX_BATCH_TOKENS,
        max_num_requests=MAX_NUM_REQUESTS,
    )
    conditions = {
        "model": f"{MODEL_FOLDER}, bfloat16",
        "prompt_tokens": NUM_PROMPT_TOKENS,
        "new_tokens": arguments.new_tokens,
        "cpus": os.cpu_count(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "seed": arguments.seed,
    }
    for row in ROWS:
        if row.name in arguments.rows:
            print(json.dumps(_measure(row, loaded, arguments) | {"conditions": conditions}), flush=True)
    loaded.frontend.close()


def make_checkpoint(directory: Path) -> None:
    """Write the checkpoint unless it is there.

    The layers' weights are so small that the residual stream ends almost where it began, at the token's own embedding;
    the head gives this embedding to the token's successor in a random order of the vocabulary.
    """
    if (directory / "tokenizer.json").exists():
        return
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from tests.fakes.tiny_llm import build_tiny_tokenizer

    config = Qwen2Config(
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        dtype="bfloat16",
        architectures=["Qwen2ForCausalLM"],
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        bos_token_id=0,
        eos_token_id=1,
    )
    config.save_pretrained(directory)
    with torch.device("meta"):
        skeleton = Qwen2ForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, parameter in skeleton.named_parameters():
        value = torch.empty(parameter.shape, dtype=torch.bfloat16).normal_(0, 0.005, generator=generator)
        tensors[name] = value + 1 if name.endswith("norm.weight") else value
    embeddings = tensors["model.embed_tokens.weight"].normal_(0, 1, generator=generator)
    tensors["lm_head.weight"] = embeddings[torch.randperm(VOCAB_SIZE, generator=generator)].contiguous()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    build_tiny_tokenizer(adds_bos=False).save_pretrained(directory)


def _measure(row: Row, loaded: LoadedEngine, arguments: argparse.Namespace) -> dict[str, Any]:
    pairs = list(_pairs(row, loaded, arguments))
    ratios = [predicted.tokens_per_s / plain.tokens_per_s for plain, predicted in pairs]
    last = pairs[-1][1].performance
    return {
        "row": row.name,
        "plain_tokens_per_s": round(median(plain.tokens_per_s for plain, _ in pairs), 2),
        "predicted_tokens_per_s": round(median(predicted.tokens_per_s for _, predicted in pairs), 2),
        "ratio": round(median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "target": row.target,
        "drafted": last.num_drafted_tokens,
        "accepted": last.num_accepted_tokens,
    }


def _pairs(row: Row, loaded: LoadedEngine, arguments: argparse.Namespace) -> Iterator[tuple[Run, Run]]:
    """Each pair has a prompt of its own. One more than asked: the first pays what a process pays once."""
    chance = random.Random(f"{row.name} {arguments.seed}")
    for index in range(arguments.rounds + 1):
        prompt = [chance.randrange(10, VOCAB_SIZE) for _ in range(NUM_PROMPT_TOKENS)]
        plain = _run(loaded, prompt, [], arguments.new_tokens)
        predicted = _run(loaded, prompt, row.predict(plain.token_ids, chance), arguments.new_tokens)
        assert predicted.token_ids == plain.token_ids, "the prediction changed the answer"
        if index:
            yield plain, predicted


def _run(loaded: LoadedEngine, prompt: list[int], prediction: list[int], num_new_tokens: int) -> Run:
    submit = Submit(
        request_id="r",
        prompt=TokenPrompt(token_ids=prompt),
        sampling=SamplingParams(temperature=0),
        max_tokens=num_new_tokens,
        ignore_eos=True,
        prediction=prediction,
    )
    loaded.engine.add(loaded.frontend.prepare(submit))
    deltas: list[Delta] = []
    ended_at: list[float] = []
    while loaded.engine.has_work():
        deltas += loaded.frontend.render(loaded.engine.step()).deltas
        ended_at += [time.perf_counter()] * (len(deltas) - len(ended_at))
    token_ids = [token_id for delta in deltas for token_id in delta.token_ids]
    num_after_first = num_new_tokens - len(deltas[0].token_ids)
    performance = deltas[-1].performance
    assert performance is not None
    return Run(token_ids, num_after_first / (ended_at[-1] - ended_at[0]), performance)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    default_directory = Path(tempfile.gettempdir()) / "hearth-benchmarks"
    parser.add_argument("--directory", type=Path, default=default_directory, help="where the checkpoint is kept")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of an answer without and one with a prediction")
    parser.add_argument("--new-tokens", type=int, default=256, help="fewer for a quick look")
    parser.add_argument("--seed", type=int, default=0)
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="*", choices=names, default=names, help="all unless said")
    return parser.parse_args()


if __name__ == "__main__":
    main()
