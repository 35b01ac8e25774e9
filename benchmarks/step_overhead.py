"""What a step costs beside arithmetic: a batch of decodes through one layer that is hardly wider than one element.

Scheduling and bookkeeping of the engine are counted; text and sockets are not, for they are another thread's. Run as a
program it prints the milliseconds of a step of 32 requests; `--profile` prints what they were spent on.
"""

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.in_process import load_in_process
from runtime.llm.engine import LlmEngine
from runtime.llm.request import Generation
from tests.fakes.tiny_engine import make_request
from tests.fakes.tiny_llm import build_tiny_model

NARROW: dict[str, Any] = {"hidden_size": 2, "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 1}
NUM_STEPS = 100
NUM_TOKENS = 100
NUM_ROWS_SHOWN = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="by functions, in seconds of this process's CPU time")
    if not parser.parse_args().profile:
        print(json.dumps(measure_step_overhead_ms(num_requests=32)))
        return
    profile = cProfile.Profile(timer=time.process_time)
    engine = start_decoding(num_requests=32)
    profile.runcall(lambda: [engine.step() for _ in range(NUM_STEPS)])
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(NUM_ROWS_SHOWN)


def measure_step_overhead_ms(num_requests: int, clock: Callable[[], float] = time.thread_time) -> float:
    """Median over steps in which each of so many requests, a hundred tokens long, gets one more."""
    engine = start_decoding(num_requests)
    durations = []
    for _ in range(NUM_STEPS):
        began_at = clock()
        outputs = engine.step()
        durations.append(clock() - began_at)
        assert len(outputs) == num_requests
    return round(median(durations) * 1000, 2)


def start_decoding(num_requests: int) -> LlmEngine:
    """With so many requests behind their prompts, and far from their ends; computed as a served model is on a CPU."""
    num_tokens = NUM_TOKENS + 2 * NUM_STEPS
    with tempfile.TemporaryDirectory() as folder:
        directory = build_tiny_model(Path(folder), "llama", num_hidden_layers=1, **NARROW)
        engine, frontend, _ = load_in_process(
            directory,
            max_context_length=num_tokens,
            concurrency=num_requests,
            max_batch_tokens=num_requests * NUM_TOKENS,
            max_num_requests=num_requests,
        )
    assert isinstance(engine, LlmEngine)
    frontend.close()
    while engine.rest():
        pass
    for index in range(num_requests):
        request = make_request([5] * NUM_TOKENS, request_id=str(index), max_tokens=2 * NUM_STEPS)
        engine.add(Generation(request.request_id, [request]))
    while len(engine.step()) < num_requests:
        pass
    return engine


if __name__ == "__main__":
    main()
