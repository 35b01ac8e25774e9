"""From nothing to the committed model: draw the corpus, train, ask the held-out questions, write the folder."""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from models.builtin import EMBER_CHAT
from scripts.ember_chat.corpus import Corpus, vocabulary_texts
from scripts.ember_chat.evaluation import Outcome, evaluate, right_share
from scripts.ember_chat.folder import write_folder
from scripts.ember_chat.tokenizer import encode, train_tokenizer
from scripts.ember_chat.training import build_model, train

NUM_CONVERSATIONS = 22_000
RIGHT_SHARE_MIN = 0.9


def main() -> int:
    options = _parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    started = time.perf_counter()
    conversations = list(Corpus(options.seed).draw(options.conversations))
    tokenizer = train_tokenizer(vocabulary_texts(conversations))
    samples = encode(tokenizer, conversations)
    model = build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    print(f"{len(samples)} conversations, {sum(len(sample.token_ids) for sample in samples)} tokens", file=sys.stderr)
    train(model, samples, random.Random(options.seed), _show_step)
    training_s = time.perf_counter() - started
    _round_to_bfloat16(model)  # what is judged is what will be written
    outcomes = evaluate(model, tokenizer)
    if options.show_wrong:
        _show_wrong(outcomes)
    suites = list(dict.fromkeys(outcome.suite for outcome in outcomes))
    figures = {suite: round(right_share(outcomes, suite), 4) for suite in suites}
    print(json.dumps({"right": figures, "questions": len(outcomes), "training_s": round(training_s)}))
    if figures["held_out"] < RIGHT_SHARE_MIN:
        print(f"below {RIGHT_SHARE_MIN:.0%} of the held-out questions: nothing is written", file=sys.stderr)
        return 1
    write_folder(model, tokenizer, options.output)
    return 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.ember_chat", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conversations", type=int, default=NUM_CONVERSATIONS, help="size of the corpus")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=EMBER_CHAT.directory)
    parser.add_argument("--show-wrong", action="store_true", help="print every wrong answer")
    return parser.parse_args()


def _show_step(step: int, num_steps: int, loss: float, tokens_per_s: float) -> None:
    if step % 20 == 0 or step == num_steps:
        print(f"step {step}/{num_steps} loss {loss:.3f} {tokens_per_s:.0f} tokens/s", file=sys.stderr, flush=True)


def _show_wrong(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if not outcome.is_right:
            print(f"{outcome.suite}: {outcome.prompt!r} -> {outcome.answer!r}", file=sys.stderr)


def _round_to_bfloat16(model: LlamaForCausalLM) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))


if __name__ == "__main__":
    sys.exit(main())
