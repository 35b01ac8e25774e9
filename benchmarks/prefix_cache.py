"""Time to the first token of a prompt whose beginning was seen before, against one that is new, in pairs.

The model has the shape of Qwen2.5-0.5B and random weights, and is made on the spot; the prompts share 2048 tokens and
differ in the last 32. One JSON line, with the medians and each pair's own saving to show the noise.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.engine_checkpoint import MODEL_FOLDER, make_checkpoint
from benchmarks.in_process import load_in_process
from models.llm_folder import inspect_llm
from runtime.engine import LoadedEngine
from runtime.protocol import Delta, Submit
from runtime.submission import SamplingParams, TokenPrompt

NUM_SHARED_TOKENS = 2048
NUM_OWN_TOKENS = 32
CONTEXT_LENGTH = 4096
MAX_BATCH_TOKENS = 512
MAX_NUM_REQUESTS = 4
TARGET = 0.8
"""What the platform's documents promise: time to first token less by as much."""


class Pair(NamedTuple):
    cold_s: float
    warm_s: float

    @property
    def saving(self) -> float:
        return 1 - self.warm_s / self.cold_s


def main() -> None:
    arguments = _parse_arguments()
    directory = arguments.directory / MODEL_FOLDER
    make_checkpoint(directory)
    loaded = load_in_process(
        directory,
        max_context_length=CONTEXT_LENGTH,
        concurrency=MAX_NUM_REQUESTS,
        max_batch_tokens=MAX_BATCH_TOKENS,
        max_num_requests=MAX_NUM_REQUESTS,
    )
    pairs = list(_measure(loaded, inspect_llm(directory).vocab_size, arguments.rounds, arguments.seed))
    loaded.frontend.close()
    result = {
        "row": "first_token_of_a_known_prefix",
        "cold_s": round(median(pair.cold_s for pair in pairs), 4),
        "warm_s": round(median(pair.warm_s for pair in pairs), 4),
        "saving": round(median(pair.saving for pair in pairs), 3),
        "savings": [round(pair.saving, 3) for pair in pairs],
        "target": f"at least {TARGET}",
        "conditions": {
            "model": f"{MODEL_FOLDER}, random weights, bfloat16",
            "shared_tokens": NUM_SHARED_TOKENS,
            "own_tokens": NUM_OWN_TOKENS,
            "max_batch_tokens": MAX_BATCH_TOKENS,
            "cpus": os.cpu_count(),
            "load_average_at_end": round(os.getloadavg()[0], 2),
            "seed": arguments.seed,
        },
    }
    print(json.dumps(result), flush=True)


def _measure(loaded: LoadedEngine, vocab_size: int, rounds: int, seed: int) -> Iterator[Pair]:
    """Each pair has a beginning of its own. One more than asked: the first pays what a process pays once."""
    generator = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [generator.randrange(10, vocab_size) for _ in range(count)]

    for index in range(rounds + 1):
        shared = tokens(NUM_SHARED_TOKENS)
        cold_s = _first_token_s(loaded, f"{index} cold", shared + tokens(NUM_OWN_TOKENS), num_cached_tokens=0)
        warm_s = _first_token_s(
            loaded, f"{index} warm", shared + tokens(NUM_OWN_TOKENS), num_cached_tokens=NUM_SHARED_TOKENS
        )
        if index:
            yield Pair(cold_s, warm_s)


def _first_token_s(loaded: LoadedEngine, request_id: str, token_ids: list[int], *, num_cached_tokens: int) -> float:
    """From the Submit to the Delta with the token, as the worker's two threads would make it, without their queues."""
    submit = Submit(
        request_id=request_id,
        prompt=TokenPrompt(token_ids=token_ids),
        sampling=SamplingParams(temperature=0),
        max_tokens=1,
    )
    began_at = time.perf_counter()
    loaded.engine.add(loaded.frontend.prepare(submit))
    deltas: list[Delta] = []
    while not deltas:
        deltas = loaded.frontend.render(loaded.engine.step()).deltas
    duration_s = time.perf_counter() - began_at
    usage = deltas[0].usage
    assert usage is not None
    assert usage.num_cached_tokens == num_cached_tokens, f"{usage.num_cached_tokens} tokens of {request_id} were cached"
    return duration_s


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of a cold and a warm prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()) / "hearth-benchmarks",
        help="where the checkpoint is kept",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
