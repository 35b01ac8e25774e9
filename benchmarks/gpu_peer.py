"""transformers' own continuous batching on the same shape and for the same job as `complete` of the steps.

Its model has random weights as well, its attention is torch's own, and all other settings are as it has them.
"""

from functools import partial
from time import perf_counter
from typing import Any

import torch

from benchmarks.gpu_engines import prompts
from benchmarks.gpu_models import config_of
from benchmarks.gpu_rows import Figure, RowSpec
from benchmarks.gpu_setting import Setting
from benchmarks.gpu_steps import peer_job


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    return [RowSpec("complete.32x1000+64", partial(measure_peer, setting, shape))]


def measure_peer(setting: Setting, shape: str) -> Figure:
    from transformers import GenerationConfig

    setting.shelf.clear()
    job = peer_job(setting)
    model = _make_model(setting, shape)
    options = GenerationConfig(max_new_tokens=job.num_new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)

    def generate(num_requests: int, seed: int) -> list[Any]:
        inputs = prompts(num_requests, job.num_prompt_tokens, seed)
        outputs = model.generate_batch(
            inputs=inputs, generation_config=options, record_timestamps=True, **_limits(setting)
        )
        num_tokens = sum(len(output.generated_tokens) for output in outputs.values())
        if num_tokens != num_requests * job.num_new_tokens:
            raise RuntimeError(f"it gave {num_tokens} tokens for {num_requests} requests; its log is above")
        return list(outputs.values())

    generate(2, seed=1)
    began_at = perf_counter()
    outputs = generate(job.num_requests, seed=2)
    wall_s = perf_counter() - began_at
    duration_s = _duration_s(outputs) or wall_s
    conditions = {"s": round(duration_s, 3), "with_its_start_s": round(wall_s, 3)}
    return Figure(job.num_requests * job.num_new_tokens / duration_s, "tok/s", conditions=conditions)


def _duration_s(outputs: list[Any]) -> float | None:
    """From the first request's arrival to the last token: each call sets up a cache and graphs before, which a server
    would do once. None where this transformers does not tell."""
    if not all(getattr(output, "timestamps", None) and hasattr(output, "created_time") for output in outputs):
        return None
    ended_at: float = max(output.timestamps[-1] for output in outputs)
    return ended_at - min(float(output.created_time) for output in outputs)


def _limits(setting: Setting) -> dict[str, Any]:
    """On a CPU it would take most of the host's memory for its cache; on a GPU it may have what it wants."""
    if setting.is_cuda:
        return {}
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    return {"continuous_batching_config": ContinuousBatchingConfig(page_size=32, num_blocks=64, max_batch_tokens=64)}


def _make_model(setting: Setting, shape: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    values = config_of(shape, is_tiny=setting.is_tiny)
    config = AutoConfig.for_model(**values)
    default = torch.get_default_dtype()
    torch.set_default_dtype(setting.dtype)
    try:
        with torch.device(setting.device):
            model = AutoModelForCausalLM.from_config(config, dtype=setting.dtype, attn_implementation="sdpa")
    finally:
        torch.set_default_dtype(default)
    return model.eval()
