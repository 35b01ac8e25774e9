"""An engine of ours inside the benchmark's own process: no worker, no socket, no tokens through text."""

from pathlib import Path
from typing import Literal

from models.llm_folder import inspect_llm
from models.sizing import replica_bytes
from runtime.engine import LoadedEngine
from runtime.llm.load import load_llm
from runtime.protocol import Load
from runtime.settings import LlmSettings

DTYPE: Literal["bfloat16"] = "bfloat16"


def load_in_process(
    directory: Path, *, max_context_length: int, concurrency: int, max_batch_tokens: int, max_num_requests: int
) -> LoadedEngine:
    """On the CPU, with memory for `concurrency` requests of full length."""
    info = inspect_llm(directory)
    budget = replica_bytes(
        info,
        DTYPE,
        max_context_length=max_context_length,
        concurrency=concurrency,
        max_batch_tokens=max_batch_tokens,
        max_num_requests=max_num_requests,
        is_cuda=False,
    )
    settings = LlmSettings(
        device="cpu",
        dtype=DTYPE,
        memory_budget_bytes=budget,
        max_context_length=max_context_length,
        max_num_requests=max_num_requests,
        max_batch_tokens=max_batch_tokens,
    )
    load = Load(model_dir=str(directory), file_sha256=info.file_sha256, settings=settings)
    return load_llm(load, lambda stage, done: None)
