"""The whole engine over a model of the GPU benchmark, and what requests cost in it: no worker, no frontend, no text.

Requests are random prompts that share nothing. What is timed is what a client of the engine would see: `step` from its
call to its return, the host's work included.
"""

import random
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

from benchmarks.gpu_models import BLOCK_SIZE, EVERYTHING, BuiltModel, Switches
from benchmarks.gpu_rows import Unavailable
from benchmarks.gpu_setting import Setting
from models.sizing import kv_bytes_per_token
from runtime.device_memory import DeviceMemory
from runtime.llm.adapters.adaptation import Adaptation
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.cuda_graphs import choose_graphs
from runtime.llm.engine import LlmEngine, LlmOutput
from runtime.llm.graphs import StepGraphs
from runtime.llm.model_runner import ModelRunner
from runtime.llm.request import Adapter, Generation, Request, TokenOutput
from runtime.settings import LlmSettings
from runtime.submission import SamplingParams

GREEDY = SamplingParams(temperature=0)
SPARE_BYTES = 3 * 2**30
"""Of the device, for activations, logits and workspaces."""
MAX_BATCH_TOKENS = 2048
"""As a daemon has it by default."""


MAX_NUM_REQUESTS = 256
NUM_WARM_STEPS = 6
"""A step's graph is captured when it has come up some times."""


class Job(NamedTuple):
    num_requests: int
    num_prompt_tokens: int
    num_new_tokens: int
    """Of each at most."""

    @property
    def blocks_each(self) -> int:
        return -(-(self.num_prompt_tokens + self.num_new_tokens) // BLOCK_SIZE)


class Decoding(NamedTuple):
    step_s: float
    """Median of steps in which every request got one more token."""
    num_tokens: float
    """Of a request in the middle of them, on average."""


def decode_job(num_requests: int, num_prompt_tokens: int, num_steps: int) -> Job:
    """With room for so many steps of all together; the first requests go on while the last are computed."""
    num_prefill_steps = -(-num_requests * (num_prompt_tokens + 1) // (MAX_BATCH_TOKENS - min(num_requests, 512)))
    return Job(num_requests, num_prompt_tokens, num_prefill_steps + NUM_WARM_STEPS + num_steps + 4)


def make_engine(
    setting: Setting,
    built: BuiltModel,
    job: Job,
    adaptation: Adaptation | None = None,
    switches: Switches = EVERYTHING,
) -> LlmEngine:
    """With KV memory for this job. Raises Unavailable where the device has too little."""
    # The scheduler admits a request only if each one that runs could get one block more.
    num_blocks = job.num_requests * (job.blocks_each + 1) + 1
    needed = num_blocks * BLOCK_SIZE * kv_bytes_per_token(built.info, setting.dtype_name) + SPARE_BYTES
    if needed > setting.free_bytes():
        setting.tidy()  # takes too long to be done for nothing
    if needed > setting.free_bytes():
        raise Unavailable(f"needs {needed / 2**30:.0f} GiB of device memory beside the weights")
    attention = built.attention(setting.device, setting.dtype, num_blocks)
    graphs = _graphs(setting, built, attention, switches)
    runner = ModelRunner(
        built.model,
        attention,
        built.packing,
        adaptation=adaptation,
        sampling_kernels=built.kernels.sampling,
        graphs=graphs,
    )
    runner.warm_up()
    return LlmEngine(
        runner,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        max_num_requests=MAX_NUM_REQUESTS,
        max_num_waiting=2048,
        max_num_waiting_tokens=2**21,
        max_batch_tokens=MAX_BATCH_TOKENS,
        enable_prefix_cache=False,
        cache_root=b"benchmark",
        memory=DeviceMemory(setting.device, [attention] if graphs is None else [graphs, attention]),
        rest=runner.rest,
        look_ahead=switches.looks_ahead,
    )


def _graphs(setting: Setting, built: BuiltModel, attention: GatherAttention, switches: Switches) -> StepGraphs | None:
    settings = LlmSettings(
        device=str(setting.device),
        dtype=setting.dtype_name,
        memory_budget_bytes=0,  # nobody asks
        max_context_length=built.info.max_context_length,
        max_num_requests=MAX_NUM_REQUESTS,
        max_batch_tokens=MAX_BATCH_TOKENS,
        enable_graphs=switches.has_graphs,
    )
    return choose_graphs(built.model, attention, built.info, settings)


def decode(engine: LlmEngine, job: Job, num_steps: int, adapters: Sequence[Adapter | None] = (None,)) -> Decoding:
    """Of requests that have all begun; they are aborted in the end."""
    requests = add_requests(engine, job, adapters)
    while not all(request.output_token_ids for request in requests):
        step(engine)
    for _ in range(NUM_WARM_STEPS):
        step(engine)
    durations = []
    for _ in range(num_steps):
        began_at = perf_counter()
        num_outputs = len(step(engine))
        durations.append(perf_counter() - began_at)
        assert num_outputs == job.num_requests, "a request was left out"
    num_tokens = sum(request.num_tokens for request in requests) / len(requests) - num_steps / 2
    for request in requests:
        engine.abort(request.request_id)
    return Decoding(median(durations), num_tokens)


def complete(engine: LlmEngine, job: Job) -> float:
    """Seconds from the arrival of all requests to the end of the last."""
    began_at = perf_counter()
    add_requests(engine, job)
    while engine.has_work():
        step(engine)
    return perf_counter() - began_at


def step(engine: LlmEngine) -> list[LlmOutput]:
    outputs = engine.step()
    assert all(isinstance(output, TokenOutput) for output in outputs), "a request failed, see above"
    return outputs


def add_requests(engine: LlmEngine, job: Job, adapters: Sequence[Adapter | None] = (None,)) -> list[Request]:
    """Prompts that nobody had before, of any tokens that every vocabulary has."""
    seed = int(torch.randint(2**31, ()).item())
    requests = []
    for index, prompt in enumerate(prompts(job.num_requests, job.num_prompt_tokens, seed)):
        request = Request(
            request_id=f"{seed}-{index}",
            prompt_token_ids=prompt,
            sampling=GREEDY,
            max_tokens=job.num_new_tokens,
            adapter=adapters[index % len(adapters)],
        )
        engine.add(Generation(request.request_id, [request]))
        requests.append(request)
    return requests


def prompts(num_requests: int, num_tokens: int, seed: int) -> list[list[int]]:
    generator = random.Random(seed)
    return [[generator.randrange(10, 300) for _ in range(num_tokens)] for _ in range(num_requests)]
