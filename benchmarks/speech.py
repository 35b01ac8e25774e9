"""Seconds of sound heard in a second, against faster-whisper called directly on the same files, in pairs.

Both are given the bytes of WAV files and say segments with times: ours by way of the worker's uploads, decoding child,
turns and batches (no socket), theirs by BatchedInferencePipeline, of which each caller has a thread over one model.
The model has the shape of Whisper tiny, but for its vocabulary, and random weights: what it says is nonsense of a
plausible length, the same on both sides. One JSON line per row, with the medians and each pair's own ratio.
"""

import argparse
import io
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from faster_whisper import BatchedInferencePipeline, WhisperModel

from runtime.protocol import Failed
from runtime.tasks.speech import Listening, Transcribe, Transcribed
from tests.fakes.tiny_listener import TinyListener, chunks_of
from tests.fakes.tiny_whisper import build_tiny_whisper, speech, wav_file

MODEL_FOLDER = "whisper-tiny-shape"
SHAPE: dict[str, Any] = {
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
}
BATCH_SIZE = 8


class Row(NamedTuple):
    name: str
    num_callers: int
    duration_s: float
    """Of each caller's file."""
    has_words: bool
    target: str


ROWS = [
    Row("one_caller_short", 1, 10.0, False, "ratio at least 0.95"),
    Row("one_caller_words", 1, 10.0, True, "ratio at least 0.95"),
    Row("one_caller_long", 1, 90.0, False, "ratio at least 0.95"),
    Row("eight_callers_short", 8, 10.0, False, "ratio at least 1.5, if cores allow"),
]


class Sides(NamedTuple):
    ours: TinyListener
    theirs: BatchedInferencePipeline


def main() -> None:
    arguments = _parse_arguments()
    directory = arguments.directory / MODEL_FOLDER
    if not (directory / "model.bin").exists():
        build_tiny_whisper(directory, quantization="int8", **SHAPE)
    model = WhisperModel(str(directory), compute_type="int8", cpu_threads=arguments.threads, local_files_only=True)
    ours = TinyListener(directory, compute_type="int8", num_threads=arguments.threads, memory_budget_bytes=2**32)
    sides = Sides(ours, BatchedInferencePipeline(model))
    conditions = {
        "model": f"{MODEL_FOLDER}, int8",
        "beams": 5,
        "threads": arguments.threads,
        "cpus": os.cpu_count(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }
    for row in ROWS:
        if row.name in arguments.rows:
            print(json.dumps(_measure(row, sides, arguments) | {"conditions": conditions}), flush=True)
    ours.close()


def _measure(row: Row, sides: Sides, arguments: argparse.Namespace) -> dict[str, object]:
    files = [
        wav_file(speech(row.duration_s, seed=seed, pause_s=0.5), arguments.directory / f"{seed}.wav").read_bytes()
        for seed in range(row.num_callers)
    ]
    sound_s = row.duration_s * row.num_callers
    pairs = []
    for number in range(arguments.pairs + 1):
        began = time.perf_counter()
        ours = _hear_ours(sides.ours, files, row, f"{row.name} {number}")
        between = time.perf_counter()
        theirs = _hear_theirs(sides.theirs, files, row)
        ended = time.perf_counter()
        if number:  # the first is for warming up
            pairs.append((sound_s / (between - began), sound_s / (ended - between)))
    return {
        "row": row.name,
        "ours_s_per_s": round(median(ours_speed for ours_speed, _ in pairs), 1),
        "theirs_s_per_s": round(median(their_speed for _, their_speed in pairs), 1),
        "ratio": round(median(ours_speed / their_speed for ours_speed, their_speed in pairs), 3),
        "ratios": [round(ours_speed / their_speed, 3) for ours_speed, their_speed in pairs],
        "texts_alike": sum(one == other for one, other in zip(ours, theirs, strict=True)) / row.num_callers,
        "characters": sum(map(len, ours)),
        "target": row.target,
    }


def _hear_ours(listener: TinyListener, files: list[bytes], row: Row, name: str) -> list[str]:
    listening = Listening(language="en", has_words=row.has_words)
    requests = [
        (
            Transcribe(request_id=f"{name} {index}", tenant=str(index), listening=listening, num_bytes=len(data)),
            chunks_of(f"{name} {index}", data),
        )
        for index, data in enumerate(files)
    ]
    answers = listener.ask_all(requests)
    texts = []
    for task, _ in requests:
        pieces = answers[task.request_id]
        assert not any(isinstance(piece, Failed) for piece in pieces), pieces
        segments = [segment for piece in pieces if isinstance(piece, Transcribed) for segment in piece.segments]
        texts.append("".join(segment.text for segment in segments))
    return texts


def _hear_theirs(pipeline: BatchedInferencePipeline, files: list[bytes], row: Row) -> list[str]:
    def hear(data: bytes) -> str:
        own = BatchedInferencePipeline(pipeline.model)  # it is made for one caller
        segments, _ = own.transcribe(
            io.BytesIO(data),
            language="en",
            without_timestamps=False,
            temperature=0.0,
            word_timestamps=row.has_words,
            batch_size=BATCH_SIZE,
        )
        return "".join(segment.text for segment in segments)

    with ThreadPoolExecutor(row.num_callers) as threads:
        return list(threads.map(hear, files))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()) / "hearth-benchmarks")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    main()
