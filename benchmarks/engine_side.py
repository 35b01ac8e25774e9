"""One side of the engine benchmark in a process of its own: our engine here, the others in `engine_peers`.

Run by its path as `python -P engine_side.py SIDE DIRECTORY`, with the checkout whose engine is meant as PYTHONPATH. It
loads the model, answers one short prompt, and prints how that went; then it runs the generation that each line of
stdin describes and prints one line of figures for it. Imports nothing of the benchmarks but for a side that needs it,
so that it runs with an older checkout, too.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypedDict

VOCAB_SIZE = 151_936
LOAD_FILE = "load.json"
"""Beside the model's folder: what a daemon would say in Load, as far as it is not the default."""

COLD_PROMPT = list(range(100, 116))


class Job(TypedDict):
    num_requests: int
    num_prompt_tokens: int
    num_new_tokens: int
    seed: int


class Figures(TypedDict):
    first_token_s: float
    """From the start until every request has its first token."""
    prompt_tokens_per_s: float
    """Until then."""
    decode_tokens_per_s: float
    """Of all requests together, from then on until the first of them ends: all of them decode all the time."""
    total_s: float
    peak_rss_bytes: int


class ColdStart(TypedDict):
    first_token_at: float
    """By the clock of the machine, which the process that started this one can read, too."""
    load_ms: dict[str, float]
    """By stage, where the side knows."""


TokenTimes = list[list[float]]
"""For each request, when each of its tokens was there, by `perf_counter`."""


class Side(NamedTuple):
    generate: Callable[[list[list[int]], int], TokenTimes]
    """From prompts and the number of new tokens for each."""
    cold_start: ColdStart
    rest: Callable[[], bool] | None = None
    """What the side does while nobody asks for anything; whether more is left."""


def main() -> None:
    side_name, directory = sys.argv[1], Path(sys.argv[2])
    replies = _own_stdout()
    side = _start(side_name, directory)
    _reply(replies, side.cold_start)
    while side.rest is not None and side.rest():
        pass
    for line in sys.stdin:
        _reply(replies, run_job(side, json.loads(line)))


def _start(name: str, directory: Path) -> Side:
    if name == "ours":
        return start_ours(directory)
    from benchmarks.engine_peers import START_PEER

    return START_PEER[name](directory)


def _own_stdout() -> int:
    """Stdout for our lines alone; what libraries print joins stderr."""
    replies = os.dup(1)
    os.dup2(2, 1)
    return replies


def _reply(replies: int, message: Figures | ColdStart) -> None:
    os.write(replies, (json.dumps(message) + "\n").encode())


def run_job(side: Side, job: Job) -> Figures:
    generator = random.Random(job["seed"])
    prompts = [
        [generator.randrange(10, VOCAB_SIZE) for _ in range(job["num_prompt_tokens"])]
        for _ in range(job["num_requests"])
    ]
    started_at = time.perf_counter()
    times = side.generate(prompts, job["num_new_tokens"])
    assert [len(own) for own in times] == [job["num_new_tokens"]] * job["num_requests"], "not the tokens asked for"
    return figures(times, started_at, job["num_prompt_tokens"] * job["num_requests"])


def figures(times: TokenTimes, started_at: float, num_prompt_tokens: int) -> Figures:
    first_at = max(own[0] for own in times)
    end_at = max(own[-1] for own in times)
    full_until = min(own[-1] for own in times)
    if full_until <= first_at:  # so few tokens that some end before others begin
        full_until = end_at
    num_decoded = sum(first_at < token_at <= full_until for own in times for token_at in own)
    return Figures(
        first_token_s=first_at - started_at,
        prompt_tokens_per_s=num_prompt_tokens / (first_at - started_at),
        decode_tokens_per_s=num_decoded / (full_until - first_at) if num_decoded else 0.0,
        total_s=end_at - started_at,
        peak_rss_bytes=peak_rss_bytes(),
    )


def start_ours(directory: Path) -> Side:
    from runtime.llm.load import load_llm
    from runtime.llm.request import Generation, Request
    from runtime.protocol import Load, Submit
    from runtime.settings import LlmSettings
    from runtime.submission import SamplingParams, TokenPrompt

    told = json.loads((directory.parent / LOAD_FILE).read_bytes())
    load = Load(model_dir=told["model_dir"], file_sha256=told["file_sha256"], settings=LlmSettings(**told["settings"]))
    engine, frontend, loaded = load_llm(load, lambda stage, done: None)
    greedy = SamplingParams(temperature=0)
    prompt = TokenPrompt(token_ids=COLD_PROMPT)
    engine.add(frontend.prepare(Submit(request_id="c", prompt=prompt, max_tokens=1, ignore_eos=True)))
    while not frontend.render(engine.step()).deltas:
        pass
    cold_start = ColdStart(first_token_at=time.time(), load_ms=loaded.load_ms)

    def generate(prompts: list[list[int]], num_new_tokens: int) -> TokenTimes:
        for index, prompt in enumerate(prompts):
            request = Request(
                request_id=str(index), prompt_token_ids=prompt, sampling=greedy, max_tokens=num_new_tokens
            )
            engine.add(Generation(str(index), [request]))
        times: TokenTimes = [[] for _ in prompts]
        while engine.has_work():
            outputs = engine.step()
            now = time.perf_counter()
            for output in outputs:
                times[int(output.request_id)].append(now)
        return times

    return Side(generate, cold_start, engine.rest)


def peak_rss_bytes() -> int:
    """Since this program began; that of `getrusage` would count the program that started it."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
