"""`python -m runtime.quantiser --parent-pid N`: quantises one model and ends. Everybody else comes first."""

import argparse
import os
import sys
from pathlib import Path

import msgspec
import torch

from models.refusal import ModelRefused
from runtime.__main__ import die_with_parent
from runtime.quantiser.messages import Ended, Message, Progress, Quantise, encode_line
from runtime.quantiser.quantise import quantise

_NICENESS = 19


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runtime.quantiser", description="Started by the daemon.")
    parser.add_argument("--parent-pid", type=int, required=True, help="the daemon; this process ends with it")
    die_with_parent(parser.parse_args().parent_pid)
    os.nice(_NICENESS)
    torch.set_num_threads(1)
    asked = msgspec.json.decode(sys.stdin.buffer.readline(), type=Quantise)
    try:
        quantise(Path(asked.source_dir), asked.file_sha256, Path(asked.target_dir), _tell)
    except ModelRefused as refused:
        _say(Ended(refusal=refused.message))
    else:
        _say(Ended())
    return 0


def _tell(num_bytes: int, total_bytes: int) -> None:
    _say(Progress(num_bytes=num_bytes, total_bytes=total_bytes))


def _say(message: Message) -> None:
    sys.stdout.buffer.write(encode_line(message))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
