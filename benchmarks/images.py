"""Seconds a picture takes in our image engine, against diffusers' own pipeline on the same folder, in turn.

The folder is an SDXL of random weights, made on the spot: far smaller than the real one, so that what we add to a step
weighs more here than it ever will. Both sides end with PNG files, encoded alike. One JSON line per row, with the median
of the rounds on either side, the ratio of the medians (above 1: ours is faster), and each round's own ratio.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel

from models.inspection import inspect_model
from runtime.diffusion.encoding import encode_image
from runtime.diffusion.load import load_diffusion
from runtime.engine import LoadedEngine
from runtime.protocol import AnyPiece, Load
from runtime.settings import DiffusionSettings
from runtime.tasks.images import Draw, Drawn
from tests.fakes.tiny_diffusion import build_tiny_sdxl

TARGET = 0.97
PROMPT = "a red fox asleep in the snow beside a small fire"


class Row(NamedTuple):
    name: str
    num_requests: int
    """Ours at the same time, theirs one after the other."""
    edge: int
    num_steps: int


ROWS = [Row("one_request", 1, 64, 8), Row("four_requests", 4, 64, 4)]


def main() -> None:
    arguments = _parse_arguments()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as directory:
        folder = make_folder(Path(directory))
        loaded = _load(folder, arguments.threads)
        pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
        pipeline.set_progress_bar_config(disable=True)
        for row in ROWS:
            print(json.dumps(_measure(row, loaded, pipeline, arguments.rounds)), flush=True)
        print(json.dumps(_measure_cancel(loaded)), flush=True)
        loaded.frontend.close()


def make_folder(directory: Path) -> Path:
    """The tiny model of the tests, with a wider UNet and VAE."""
    build_tiny_sdxl(directory)
    torch.manual_seed(1)
    for part, kind, channels in (("unet", UNet2DConditionModel, (64, 128)), ("vae", AutoencoderKL, (32, 64))):
        config = {name: value for name, value in kind.load_config(directory / part).items() if name[0] != "_"}
        config |= {"block_out_channels": channels, "norm_num_groups": 32}
        if part == "unet":
            config["sample_size"] = 64
        kind.from_config(config).save_pretrained(directory / part)
    return directory


def _load(folder: Path, num_threads: int) -> LoadedEngine:
    settings = DiffusionSettings(
        device="cpu", memory_budget_bytes=64 * 1024**3, dtype="float32", num_threads=num_threads, max_batch_size=4
    )
    load = Load(model_dir=str(folder), file_sha256=inspect_model(folder).file_sha256, settings=settings)
    return load_diffusion(load, lambda stage, fraction: None)


def _measure(row: Row, loaded: LoadedEngine, pipeline: Any, num_rounds: int) -> dict[str, Any]:
    def ours() -> list[bytes]:
        for seed in range(row.num_requests):
            loaded.engine.add(loaded.frontend.prepare(_draw(row, seed)))
        pieces: list[AnyPiece] = []
        while loaded.engine.has_work():
            pieces += loaded.frontend.render(loaded.engine.step()).pieces
        return [piece.data for piece in sorted(pieces, key=lambda piece: piece.request_id) if isinstance(piece, Drawn)]

    def theirs() -> list[bytes]:
        return [_draw_plainly(pipeline, row, seed) for seed in range(row.num_requests)]

    is_equal = ours() == theirs()  # and both are warm now
    rounds = [(_cost(ours), _cost(theirs)) for _ in range(num_rounds)]
    our_s, their_s = (median(cost.wall_s for cost in side) for side in zip(*rounds, strict=True))
    our_cpu_s, their_cpu_s = (median(cost.cpu_s for cost in side) for side in zip(*rounds, strict=True))
    return {
        "row": row.name,
        "ours_s": round(our_s, 4),
        "diffusers_s": round(their_s, 4),
        "ratio": round(their_s / our_s, 3),
        "target": TARGET,
        "cpu_ratio": round(their_cpu_s / our_cpu_s, 3),
        "rounds": [round(their.wall_s / our.wall_s, 3) for our, their in rounds],
        "pictures_are_equal": is_equal,
        "threads": torch.get_num_threads(),
    }


def _measure_cancel(loaded: LoadedEngine) -> dict[str, Any]:
    """How long a request that was given up still holds the device."""
    loaded.engine.add(loaded.frontend.prepare(_draw(ROWS[0]._replace(num_steps=20), seed=0)))
    for _ in range(5):
        loaded.engine.step()
    began_at = time.perf_counter()
    loaded.engine.abort("0")
    loaded.frontend.forget("0")
    assert not loaded.engine.has_work()
    return {"row": "cancel", "ours_s": round(time.perf_counter() - began_at, 6), "beside": "the step it is in"}


def _draw(row: Row, seed: int) -> Draw:
    return Draw(
        request_id=str(seed), prompt=PROMPT, seeds=[seed], width=row.edge, height=row.edge, num_steps=row.num_steps
    )


def _draw_plainly(pipeline: Any, row: Row, seed: int) -> bytes:
    generator = torch.Generator().manual_seed(seed)
    made = pipeline(
        PROMPT, height=row.edge, width=row.edge, num_inference_steps=row.num_steps, generator=generator
    ).images[0]
    return encode_image(np.asarray(made), "png")


class _Cost(NamedTuple):
    wall_s: float
    cpu_s: float
    """Of all threads: steadier where others share the cores."""


def _cost(side: Callable[[], list[bytes]]) -> _Cost:
    wall_at, cpu_at = time.perf_counter(), time.process_time()
    side()
    return _Cost(time.perf_counter() - wall_at, time.process_time() - cpu_at)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
