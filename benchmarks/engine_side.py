"""One side of the engine benchmark in a process of its own: our engine, or plain transformers.

`python -m benchmarks.engine_side SIDE DIRECTORY` loads the model, answers one short prompt, and prints how that went;
then it runs the generation that each line of stdin describes and prints one line of figures for it.
"""

import json
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

VOCAB_SIZE = 151_936
LOAD_FILE = "load.json"
"""Beside the model's folder: the Load message for our side, which a daemon would have computed."""

COLD_PROMPT = "the hearth keeps the house warm"


class Job(TypedDict):
    num_requests: int
    num_prompt_tokens: int
    num_new_tokens: int
    seed: int


class Figures(TypedDict):
    first_token_s: float
    """From the start until every request has its first token."""
    decode_tokens_per_s: float
    """After that, over all requests."""
    tokens_per_s: float
    """New tokens over the whole time."""
    peak_rss_bytes: int


class ColdStart(TypedDict):
    first_token_at: float
    load_ms: dict[str, float]
    """By stage, where the side knows."""


class Side(NamedTuple):
    generate: Callable[[list[list[int]], int], list[tuple[float, int]]]
    """Prompts and number of new tokens → for every step its end and how many tokens it gave."""
    cold_start: ColdStart


def main() -> None:
    side_name, directory = sys.argv[1], Path(sys.argv[2])
    side = {"ours": start_ours, "transformers": start_transformers}[side_name](directory)
    print(json.dumps(side.cold_start), flush=True)
    for line in sys.stdin:
        print(json.dumps(run_job(side, json.loads(line))), flush=True)


def run_job(side: Side, job: Job) -> Figures:
    generator = random.Random(job["seed"])
    prompts = [
        [generator.randrange(10, VOCAB_SIZE) for _ in range(job["num_prompt_tokens"])]
        for _ in range(job["num_requests"])
    ]
    started_at = time.time()
    steps = side.generate(prompts, job["num_new_tokens"])
    num_tokens = job["num_requests"] * job["num_new_tokens"]
    assert sum(count for _, count in steps) == num_tokens
    first_token_at, num_given = _all_have_begun(steps, job["num_requests"])
    ended_at = steps[-1][0]
    decode_s = ended_at - first_token_at
    return Figures(
        first_token_s=first_token_at - started_at,
        decode_tokens_per_s=(num_tokens - num_given) / decode_s if decode_s else 0.0,
        tokens_per_s=num_tokens / (ended_at - started_at),
        peak_rss_bytes=peak_rss_bytes(),
    )


def _all_have_begun(steps: list[tuple[float, int]], num_requests: int) -> tuple[float, int]:
    """End of the first step that gives each request a token, and the tokens given until then."""
    num_given = 0
    for ended_at, count in steps:
        num_given += count
        if count == num_requests:
            return ended_at, num_given
    raise AssertionError("no step served every request")


def start_ours(directory: Path) -> Side:
    import msgspec

    from runtime.llm.load import load_llm
    from runtime.llm.request import Generation, Request
    from runtime.protocol import Load, Submit
    from runtime.submission import SamplingParams, TextPrompt

    load = msgspec.json.decode((directory.parent / LOAD_FILE).read_bytes(), type=Load)
    engine, frontend, loaded = load_llm(load, lambda stage, done: None)
    engine.add(frontend.prepare(Submit(request_id="c", prompt=TextPrompt(text=COLD_PROMPT), max_tokens=1)))
    deltas = frontend.render(engine.step()).deltas
    cold_start = ColdStart(first_token_at=time.time(), load_ms=loaded.load_ms)
    assert deltas[0].token_ids
    greedy = SamplingParams(temperature=0)

    def generate(prompts: list[list[int]], num_new_tokens: int) -> list[tuple[float, int]]:
        for index, prompt in enumerate(prompts):
            request = Request(
                request_id=str(index), prompt_token_ids=prompt, sampling=greedy, max_tokens=num_new_tokens
            )
            engine.add(Generation(str(index), [request]))
        steps = []
        while engine.has_work():
            outputs = engine.step()
            steps.append((time.time(), len(outputs)))
        return steps

    return Side(generate, cold_start)


def start_transformers(directory: Path) -> Side:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).eval()

    def run(input_ids: Any, num_new_tokens: int) -> list[tuple[float, int]]:
        steps: list[tuple[float, int]] = []

        def note_step(input_ids: Any, scores: Any, **options: Any) -> Any:
            steps.append((time.time(), len(input_ids)))
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
        return steps

    run(tokenizer(COLD_PROMPT, return_tensors="pt").input_ids, 1)
    cold_start = ColdStart(first_token_at=time.time(), load_ms={})
    return Side(lambda prompts, num_new_tokens: run(torch.tensor(prompts), num_new_tokens), cold_start)


def peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
