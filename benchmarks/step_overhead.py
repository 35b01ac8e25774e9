"""What a step costs beside arithmetic: a batch of decodes through one layer that is hardly wider than one element."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from runtime.llm.request import Batch, ScheduledRequest
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel, make_request
from tests.fakes.tiny_llm import build_tiny_model

NUM_STEPS = 100
NUM_TOKENS = 100


def measure_step_overhead_ms(num_requests: int) -> float:
    """Median over steps in which each of so many requests, a hundred tokens long, gets one more."""
    with tempfile.TemporaryDirectory() as directory:
        narrow: dict[str, Any] = {
            "hidden_size": 2,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "intermediate_size": 1,
        }
        tiny = TinyModel(build_tiny_model(Path(directory), "llama", num_hidden_layers=1, **narrow))
    num_blocks_each = (NUM_TOKENS + NUM_STEPS) // BLOCK_SIZE + 1
    runner = tiny.runner(num_requests * num_blocks_each + 1)
    requests = []
    for index in range(num_requests):
        request = make_request([5] * NUM_TOKENS, request_id=str(index), max_tokens=NUM_STEPS)
        first_block = 1 + index * num_blocks_each
        request.block_ids = list(range(first_block, first_block + num_blocks_each))
        request.num_computed_tokens = NUM_TOKENS - 1
        requests.append(request)
    batch = Batch([ScheduledRequest(request, 1, True) for request in requests])
    durations = []
    for _ in range(NUM_STEPS):
        began_at = time.perf_counter()
        results = runner.execute(batch)
        durations.append(time.perf_counter() - began_at)
        for request, result in zip(requests, results, strict=True):
            request.num_computed_tokens += 1
            request.output_token_ids.append(result.tokens[0].token_id)
    return round(median(durations) * 1000, 2)
