"""The LLM engine against transformers' `generate` on the same checkpoint, in turn within one run.

The checkpoint has the shape of Qwen2.5-0.5B and random weights, and is made on the spot. One JSON line per row, with
the median of the rounds on either side, the ratio of the medians, and each round's own ratio to show the noise.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from benchmarks.engine_side import LOAD_FILE, VOCAB_SIZE, Figures, Job
from benchmarks.step_overhead import measure_step_overhead_ms
from models.info import ModelInfo
from models.llm_folder import inspect_llm
from models.sizing import replica_bytes
from runtime.protocol import Load
from runtime.settings import LlmSettings

SIDES = ("ours", "transformers")
MODEL_FOLDER = "qwen2.5-0.5b-shape"
COLD_START, STEP_OVERHEAD = "cold_start_s", "step_overhead_ms"


class Row(NamedTuple):
    name: str
    figure: str
    """Of `Figures`."""
    num_requests: int
    num_prompt_tokens: int
    num_new_tokens: int
    target: float
    """Ratio to reach; of speeds, ours over theirs."""


ROWS = [
    Row("prefill_512_s", "first_token_s", 1, 512, 1, 1.6),
    Row("decode_1_tokens_per_s", "decode_tokens_per_s", 1, 128, 128, 2.2),
    Row("decode_8_tokens_per_s", "decode_tokens_per_s", 8, 128, 128, 1.8),
    Row("decode_32_tokens_per_s", "decode_tokens_per_s", 32, 128, 128, 1.2),
]


def main() -> None:
    arguments = _parse_arguments()
    directory = arguments.directory / MODEL_FOLDER
    make_checkpoint(directory)
    info = inspect_llm(directory)
    settings = _settings(info)
    load = Load(model_dir=str(directory), file_sha256=info.file_sha256, settings=settings)
    (arguments.directory / LOAD_FILE).write_bytes(msgspec.json.encode(load))
    conditions = {
        "model": f"{MODEL_FOLDER}, random weights, bfloat16, {info.weight_bytes} bytes",
        "max_batch_tokens": settings.max_batch_tokens,
        "cpus": os.cpu_count(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "rounds": arguments.rounds,
    }
    for result in _results(arguments, directory, info.weight_bytes):
        print(json.dumps(result | {"conditions": conditions}), flush=True)


def _settings(info: ModelInfo) -> LlmSettings:
    """Memory for what the rows need at once and no more, so that the peak means something."""
    max_context_length = max(row.num_prompt_tokens + row.num_new_tokens for row in ROWS)
    max_num_requests = max(row.num_requests for row in ROWS)
    num_tokens = max(row.num_requests * (row.num_prompt_tokens + row.num_new_tokens) for row in ROWS)
    max_batch_tokens = 512
    budget = replica_bytes(
        info,
        "bfloat16",
        max_context_length=max_context_length,
        concurrency=-(-num_tokens // max_context_length),
        max_batch_tokens=max_batch_tokens,
        max_num_requests=max_num_requests,
        is_cuda=False,
    )
    return LlmSettings(
        device="cpu",
        dtype="bfloat16",
        memory_budget_bytes=budget,
        max_context_length=max_context_length,
        max_num_requests=max_num_requests,
        max_batch_tokens=max_batch_tokens,
    )


def make_checkpoint(directory: Path) -> None:
    """Write the checkpoint unless it is there."""
    if not (directory / "tokenizer.json").exists():
        subprocess.run([sys.executable, "-c", _MAKE_CHECKPOINT, str(directory), str(VOCAB_SIZE)], check=True)


# In a process of its own, so that none of this is in the memory of the one that measures.
_MAKE_CHECKPOINT = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM
from tests.fakes.tiny_llm import build_tiny_tokenizer

directory, vocab_size = Path(sys.argv[1]), int(sys.argv[2])
config = Qwen2Config(
    hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
    vocab_size=vocab_size, max_position_embeddings=32768, tie_word_embeddings=True, dtype="bfloat16",
    architectures=["Qwen2ForCausalLM"], rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    bos_token_id=0, eos_token_id=1,
)
config.save_pretrained(directory)
with torch.device("meta"):
    skeleton = Qwen2ForCausalLM(config)
generator = torch.Generator().manual_seed(0)
tensors = {}
for name, parameter in skeleton.named_parameters():
    value = torch.empty(parameter.shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
    tensors[name] = value + 1 if name.endswith("norm.weight") else value
tensors.pop("lm_head.weight", None)
save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
build_tiny_tokenizer(adds_bos=False).save_pretrained(directory)
"""


def _results(arguments: argparse.Namespace, directory: Path, weight_bytes: int) -> Iterator[dict[str, Any]]:
    if COLD_START in arguments.rows:
        yield _measure_cold_start(arguments.rounds, directory)
    rows = [row for row in ROWS if row.name in arguments.rows]
    if rows:
        yield from _measure_speeds(rows, arguments, directory, weight_bytes)
    if STEP_OVERHEAD in arguments.rows:
        yield {"row": STEP_OVERHEAD, "ms": measure_step_overhead_ms(num_requests=32), "target": "below 3"}


def _measure_cold_start(rounds: int, directory: Path) -> dict[str, Any]:
    """From the start of a process to its first token, files in the page cache."""
    values: dict[str, list[float]] = {side: [] for side in SIDES}
    stages: dict[str, float] = {}
    for _ in range(rounds):
        for side in SIDES:
            with SideProcess(side, directory) as process:
                values[side].append(process.cold_start_s)
                stages = process.load_ms or stages
    return _row(COLD_START, values, target=2.0, is_speed=False) | {"load_ms": stages}


def _measure_speeds(
    rows: list[Row], arguments: argparse.Namespace, directory: Path, weight_bytes: int
) -> Iterator[dict[str, Any]]:
    """Both sides stay loaded and run each job in turn; their peak memory is that of all rows together."""
    peaks: dict[str, int] = {}
    with SideProcess("ours", directory) as ours, SideProcess("transformers", directory) as theirs:
        for row in rows:
            values: dict[str, list[float]] = {side: [] for side in SIDES}
            for round_index in range(arguments.rounds):
                for process in (ours, theirs):
                    figures: dict[str, Any] = dict(process.run(_job(row, arguments, round_index)))
                    values[process.side].append(figures[row.figure])
                    peaks[process.side] = figures["peak_rss_bytes"]
            yield _row(row.name, values, target=row.target, is_speed=row.figure != "first_token_s")
    over_weights = round(peaks["ours"] / weight_bytes, 3)
    yield {"row": "peak_rss_bytes", **peaks, "ours_over_weights": over_weights, "target": "below 1.6"}


def _job(row: Row, arguments: argparse.Namespace, round_index: int) -> Job:
    num_new_tokens = min(row.num_new_tokens, arguments.new_tokens)
    # A prompt is never used twice: the prefix cache is on.
    return Job(
        num_requests=row.num_requests,
        num_prompt_tokens=row.num_prompt_tokens,
        num_new_tokens=num_new_tokens,
        seed=hash((row.num_requests, row.num_prompt_tokens, round_index)),
    )


def _row(name: str, values: dict[str, list[float]], *, target: float, is_speed: bool) -> dict[str, Any]:
    """`ratio` is always how many times faster ours is."""

    def ratio(ours: float, theirs: float) -> float:
        return round(ours / theirs if is_speed else theirs / ours, 3)

    medians = {side: median(values[side]) for side in SIDES}
    return {
        "row": name,
        **{side: round(value, 4) for side, value in medians.items()},
        "ratio": ratio(medians["ours"], medians["transformers"]),
        "ratios": [ratio(ours, theirs) for ours, theirs in zip(values["ours"], values["transformers"], strict=True)],
        "target": f"at least {target}",
    }


class SideProcess:
    """A running `engine_side`; its cold start lies behind it."""

    def __init__(self, side: str, directory: Path) -> None:
        self.side = side
        started_at = time.time()
        command = [sys.executable, "-m", "benchmarks.engine_side", side, str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cold_start = self._read()
        self.cold_start_s = float(cold_start["first_token_at"]) - started_at
        self.load_ms: dict[str, float] = cold_start["load_ms"]

    def run(self, job: Job) -> Figures:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        figures: Figures = self._read()
        return figures

    def __enter__(self) -> "SideProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.side} ended with status {self._process.wait()}")
        return json.loads(line)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    default_directory = Path(tempfile.gettempdir()) / "hearth-benchmarks"
    parser.add_argument("--directory", type=Path, default=default_directory, help="where the checkpoint is kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=128, help="fewer for a quick look")
    names = [COLD_START, *(row.name for row in ROWS), STEP_OVERHEAD]
    parser.add_argument("--rows", nargs="*", choices=names, default=names, help="all unless said")
    return parser.parse_args()


if __name__ == "__main__":
    main()
