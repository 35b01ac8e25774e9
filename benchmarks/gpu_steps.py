"""Steps of the whole engine: decodes at every batch size with all of it on, and with one thing after the other off;
prompts, first tokens, what the device idles, and the same job that transformers' own batching is given.

A variant is a row of `VARIANTS`: a switch that a new part of the engine brings is one more line there.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import NamedTuple

from benchmarks import gpu_rooflines
from benchmarks.gpu_device_trace import trace
from benchmarks.gpu_engines import Job, add_requests, complete, decode, decode_job, make_engine, step
from benchmarks.gpu_models import EVERYTHING, Switches
from benchmarks.gpu_rows import Figure, RowSpec
from benchmarks.gpu_setting import Setting


class Variant(NamedTuple):
    switches: Switches
    batches: tuple[int, ...]
    needs_cuda: bool = False


BATCHES = (1, 8, 32, 128, 256)
FEW = (1, 32)
VARIANTS = {
    "graphs_off": Variant(EVERYTHING._replace(has_graphs=False), BATCHES, needs_cuda=True),
    "look_ahead_off": Variant(EVERYTHING._replace(looks_ahead=False), FEW),
    "patches_off": Variant(EVERYTHING._replace(is_patched=False), BATCHES),
    "kernels_off": Variant(EVERYTHING._replace(has_kernels=False), FEW),
    "attention_gathered": Variant(EVERYTHING._replace(has_paged_kernels=False), FEW),
}
CONTEXT = 1000
PEER_JOB = Job(num_requests=32, num_prompt_tokens=CONTEXT, num_new_tokens=64)
"""That `gpu_peer.py` has transformers do, too."""


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    def of(measure: Callable[..., Figure], *arguments: object) -> Callable[[], Figure]:
        return partial(measure, setting, shape, *arguments)

    specs = [RowSpec(f"step.b{num_requests}", of(measure_steps, EVERYTHING, num_requests)) for num_requests in BATCHES]
    specs.append(RowSpec("prefill.32x1000", of(measure_prefill)))
    specs.append(RowSpec("ttft.1000", of(measure_first_token)))
    specs.append(RowSpec("complete.32x1000+64", of(measure_completions)))
    for num_requests in FEW:
        specs.append(RowSpec(f"idle.b{num_requests}", of(measure_idle, num_requests), needs_cuda=True))
        specs.append(RowSpec(f"capture.b{num_requests}", of(measure_capture, num_requests), needs_cuda=True))
    for name, variant in VARIANTS.items():
        for num_requests in variant.batches:
            measure = of(measure_steps, variant.switches, num_requests)
            specs.append(RowSpec(f"step.b{num_requests}.{name}", measure, needs_cuda=variant.needs_cuda))
    return specs


def measure_steps(setting: Setting, shape: str, switches: Switches, num_requests: int) -> Figure:
    built = setting.shelf.get(shape, is_tiny=setting.is_tiny, switches=switches)
    num_steps = 2 if setting.is_tiny else 24
    job = decode_job(num_requests, _num_tokens(setting), num_steps)
    decoding = decode(make_engine(setting, built, job, switches=switches), job, num_steps)
    best_s = gpu_rooflines.decode_s(
        setting.limits, built.info, setting.dtype_name, num_requests, round(decoding.num_tokens)
    )
    return Figure(
        num_requests / decoding.step_s,
        "tok/s",
        None if best_s is None else num_requests / best_s,
        conditions={"step_ms": _ms(decoding.step_s), "context": round(decoding.num_tokens)},
    )


def measure_prefill(setting: Setting, shape: str) -> Figure:
    built = setting.shelf.get(shape, is_tiny=setting.is_tiny)
    job = Job(32, _num_tokens(setting), 1)
    engine = make_engine(setting, built, job)
    complete(engine, job._replace(num_requests=2))  # compiles
    duration_s = median(complete(engine, job) for _ in range(3))
    num_tokens = job.num_requests * job.num_prompt_tokens
    best_s = gpu_rooflines.prefill_s(
        setting.limits, built.info, setting.dtype_name, job.num_requests, job.num_prompt_tokens
    )
    return Figure(num_tokens / duration_s, "tok/s", None if best_s is None else num_tokens / best_s)


def measure_first_token(setting: Setting, shape: str) -> Figure:
    """Of a request that is alone."""
    built = setting.shelf.get(shape, is_tiny=setting.is_tiny)
    job = Job(1, _num_tokens(setting), 1)
    engine = make_engine(setting, built, job)
    complete(engine, job)
    duration_s = median(complete(engine, job) for _ in range(setting.rounds))
    best_s = gpu_rooflines.prefill_s(setting.limits, built.info, setting.dtype_name, 1, job.num_prompt_tokens)
    return Figure(duration_s * 1000, "ms", None if best_s is None else best_s * 1000)


def measure_completions(setting: Setting, shape: str) -> Figure:
    built = setting.shelf.get(shape, is_tiny=setting.is_tiny)
    job = peer_job(setting)
    engine = make_engine(setting, built, job)
    complete(engine, Job(1, job.num_prompt_tokens, 2))
    duration_s = complete(engine, job)
    return Figure(job.num_requests * job.num_new_tokens / duration_s, "tok/s", conditions={"s": round(duration_s, 3)})


def measure_idle(setting: Setting, shape: str, num_requests: int) -> Figure:
    """What of a decode step's time nothing runs in on the device.

    The step is timed without the profiler, which slows the host down; how long the device is busy the profiler tells.
    """
    built = setting.shelf.get(shape, is_tiny=setting.is_tiny)
    num_steps = 8
    job = decode_job(num_requests, _num_tokens(setting), 4 * num_steps)
    engine = make_engine(setting, built, job)
    step_s = decode(engine, job, 2 * num_steps).step_s
    requests = add_requests(engine, job)
    while not all(request.output_token_ids for request in requests):
        step(engine)
    step(engine)
    traced = trace(lambda: [step(engine) for _ in range(num_steps)])
    for request in requests:
        engine.abort(request.request_id)
    busy_s = traced.busy_s / num_steps
    return Figure(
        max(0.0, step_s - busy_s) * 1000,
        "ms",
        conditions={
            "step_ms": _ms(step_s),
            "busy_ms": _ms(busy_s),
            "kernels_per_step": round(traced.num_kernels / num_steps),
            "idle_ms_while_traced": _ms(traced.idle_s / num_steps),
        },
    )


def measure_capture(setting: Setting, shape: str, num_requests: int) -> Figure:
    """Of the steps that a job has come by until it decodes, in the pause that an engine uses for it."""
    built = setting.shelf.get(shape, is_tiny=setting.is_tiny)
    job = decode_job(num_requests, _num_tokens(setting), 8)
    engine = make_engine(setting, built, job)
    requests = add_requests(engine, job)
    while not all(request.output_token_ids for request in requests):
        step(engine)
    for _ in range(2):
        step(engine)
    for request in requests:
        engine.abort(request.request_id)
    free_bytes, began_at, num_rests = setting.free_bytes(), perf_counter(), 1
    while engine.rest():
        num_rests += 1
    setting.synchronize()
    duration_s = perf_counter() - began_at
    taken = (free_bytes - setting.free_bytes()) / 2**20
    return Figure(duration_s, "s", conditions={"rests": num_rests, "mib": round(taken, 1)})


def peer_job(setting: Setting) -> Job:
    return Job(4, 16, 4) if setting.is_tiny else PEER_JOB


def _num_tokens(setting: Setting) -> int:
    return 12 if setting.is_tiny else CONTEXT


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
