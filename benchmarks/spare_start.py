"""From Load to the first token of a spare worker whose model's files are in the page cache: its imports are done.

Run by its path as `python -P spare_start.py DIRECTORY`, with the checkout whose worker is meant as PYTHONPATH
and as working directory; prints the seconds. What a daemon adds to it is in `cold_start`.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runtime.message import Message
from runtime.protocol import (
    FRAME_HEADER,
    Load,
    Loaded,
    LoadFailed,
    Outputs,
    Prepared,
    Submit,
    ToWorker,
    decode_from_worker,
    encode_frame,
    frame_length,
)
from runtime.settings import LlmSettings
from runtime.submission import TokenPrompt

LOAD_FILE = "load.json"
PROMPT = list(range(100, 116))


def main() -> None:
    directory = Path(sys.argv[1])
    told = json.loads((directory.parent / LOAD_FILE).read_bytes())
    load = Load(model_dir=told["model_dir"], file_sha256=told["file_sha256"], settings=LlmSettings(**told["settings"]))
    print(json.dumps(first_token_s(load)))


def first_token_s(load: Load) -> float:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = f"{directory}/socket"
        listener.bind(path)
        listener.listen()
        command = [sys.executable, "-m", "runtime", "--kind", "spare", "--socket", path]
        with subprocess.Popen([*command, "--parent-pid", str(os.getpid())]) as worker:
            connection, _ = listener.accept()
            with connection:
                duration = _first_token_s(connection, load)
            worker.kill()
    return duration


def _first_token_s(connection: socket.socket, load: Load) -> float:
    _receive(connection, Prepared)
    started_at = time.perf_counter()
    _send(connection, load)
    _receive(connection, Loaded)
    _send(connection, Submit(request_id="c", prompt=TokenPrompt(token_ids=PROMPT), max_tokens=1, ignore_eos=True))
    _receive(connection, Outputs)
    return time.perf_counter() - started_at


def _send(connection: socket.socket, message: ToWorker) -> None:
    connection.sendall(encode_frame(message))


def _receive(connection: socket.socket, wanted: type[Message]) -> None:
    while True:
        length = frame_length(_read(connection, FRAME_HEADER.size))
        message = decode_from_worker(_read(connection, length))
        assert not isinstance(message, LoadFailed), message
        if isinstance(message, wanted):
            return


def _read(connection: socket.socket, num_bytes: int) -> bytes:
    content = b""
    while len(content) < num_bytes:
        piece = connection.recv(num_bytes - len(content))
        assert piece, "the worker ended"
        content += piece
    return content


if __name__ == "__main__":
    main()
