"""From nothing to the committed model: train on speech made meanwhile, let it hear strangers, write the folder."""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import torch

from models.builtin import EMBER_WHISPER
from scripts.ember_whisper.espeak import Espeak
from scripts.ember_whisper.evaluation import evaluate
from scripts.ember_whisper.folder import SIZE_BYTES_MAX, convert
from scripts.ember_whisper.tokenizer import train_tokenizer
from scripts.ember_whisper.training import Losses, build_model, train
from scripts.ember_whisper.voices import draw_voice
from scripts.ember_whisper.windows import Speaker
from scripts.model_folder import replace_folder

WRONG_SHARE_MAX = 0.1


def main() -> int:
    options = _parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    espeak = Espeak()
    vocabulary = train_tokenizer()
    model = build_model(vocabulary)
    speaker = Speaker(options.seed, draw_voice, espeak)
    train(model, vocabulary, speaker, random.Random(options.seed), _show_step)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.output.parent) as name:
        written = Path(name) / options.output.name
        convert(model, vocabulary, written)
        figures = evaluate(written, espeak, options.threads)  # what is judged is what was written
        print(json.dumps({"wrong": {suite: round(share, 4) for suite, share in figures.items()}}))
        if max(figures.values()) > WRONG_SHARE_MAX:
            print(f"above {WRONG_SHARE_MAX:.0%} of the words: nothing is written", file=sys.stderr)
            return 1
        replace_folder(written, options.output, SIZE_BYTES_MAX)
    return 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.ember_whisper", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=EMBER_WHISPER.directory)
    return parser.parse_args()


def _show_step(step: int, losses: Losses) -> None:
    if step % 20 == 0:
        told = " ".join(f"{name} {loss:.3f}" for name, loss in losses._asdict().items())
        print(f"step {step}: {told}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
