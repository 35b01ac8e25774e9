"""What LoRA addons cost a step of decodes: none, one for all rows, one for half of them, eight different ones.

The model has the shape of Qwen2.5-0.5B and random weights, and is made on the spot; addons are of rank 16 and adapt
every linear layer. Ways take turns within a run. One JSON line per batch size, with each way's median and its ratio to
a model that was loaded without room for addons.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks.engine_checkpoint import MODEL_FOLDER, make_checkpoint
from runtime.llm.adapters.adapter import LoraAdapter
from runtime.llm.model_runner import ModelRunner
from runtime.llm.request import Batch, Request, ScheduledRequest
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel, make_request

NUM_ADDONS = 8
RANK = 16
NUM_TOKENS = 128
NUM_STEPS = 8
"""In one turn of one way."""
BATCH_SIZES = (1, 8, 32)
WITHOUT_ROOM = "without_room"


def main() -> None:
    arguments = _parse_arguments()
    directory = arguments.directory / MODEL_FOLDER
    make_checkpoint(directory)
    tiny = TinyModel(directory, dtype=torch.bfloat16)
    while tiny.packing:
        tiny.packing.advance(1.0)
    addons = [
        tiny.adapter(build_tiny_addon(arguments.directory / f"addon-{seed}", directory, seed=seed, rank=RANK))
        for seed in range(NUM_ADDONS)
    ]
    for num_requests in BATCH_SIZES:
        print(json.dumps(_measure(tiny, addons, num_requests, arguments.rounds)), flush=True)


def _measure(tiny: TinyModel, addons: list[LoraAdapter], num_requests: int, num_rounds: int) -> dict[str, object]:
    attention = tiny.attention(num_requests * (-(-NUM_TOKENS // BLOCK_SIZE)) + 1)
    without_room = ModelRunner(tiny.model, attention, tiny.packing)
    with_room = ModelRunner(tiny.model, attention, tiny.packing, adaptation=tiny.adaptation)
    ways: dict[str, tuple[ModelRunner, list[LoraAdapter | None]]] = {
        WITHOUT_ROOM: (without_room, [None]),
        "none": (with_room, [None]),
        "one": (with_room, [addons[0]]),
        "one_for_half": (with_room, [None, addons[0]]),
        "eight": (with_room, [*addons]),
    }
    durations_ms: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(num_rounds):
        for way, (runner, adapters) in ways.items():
            durations_ms[way] += _steps_ms(runner, _decodes(adapters, num_requests))
    medians = {way: median(durations) for way, durations in durations_ms.items()}
    return {
        "row": f"step_of_{num_requests}_decodes",
        "ms": {way: round(duration, 2) for way, duration in medians.items()},
        "ratio": {way: round(duration / medians[WITHOUT_ROOM], 3) for way, duration in medians.items()},
    }


def _decodes(adapters: list[LoraAdapter | None], num_requests: int) -> Batch:
    num_blocks_each = -(-NUM_TOKENS // BLOCK_SIZE)
    return Batch(
        [
            ScheduledRequest(_request(index, adapters[index % len(adapters)], num_blocks_each), 1, True)
            for index in range(num_requests)
        ]
    )


def _request(index: int, adapter: LoraAdapter | None, num_blocks: int) -> Request:
    request = make_request([5] * NUM_TOKENS, request_id=str(index), adapter=adapter)
    request.block_ids = list(range(1 + index * num_blocks, 1 + (index + 1) * num_blocks))
    request.num_computed_tokens = NUM_TOKENS - 1
    return request


def _steps_ms(runner: ModelRunner, batch: Batch) -> list[float]:
    """The same step again and again: nobody takes what it samples."""
    durations = []
    for _ in range(NUM_STEPS):
        began_at = time.perf_counter()
        runner.execute(batch)
        durations.append((time.perf_counter() - began_at) * 1000)
    return durations


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    default_directory = Path(tempfile.gettempdir()) / "hearth-benchmarks"
    parser.add_argument("--directory", type=Path, default=default_directory, help="where the checkpoint is kept")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
