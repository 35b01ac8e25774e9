"""Quantising a model in a process of its own: it takes the processor's idle time, and none of the daemon's memory.

The process is told once what to do, tells how far it is line by line, and is killed when nobody waits for it any
longer. What it has finished stays where it was asked to put it.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.errors import Code, HearthError
from runtime.quantiser.messages import Ended, FromQuantiser, Progress, Quantise, encode_line

logger = logging.getLogger(__name__)

MODULE = "runtime.quantiser"
STALL_TIMEOUT_S = 600.0
"""Without a word for so long, it is given up: one tensor is written in seconds."""
WORDS_KEPT = 2000
"""Characters of what it says when it breaks."""
_SOURCE_ROOT = Path(__file__).parent.parent.parent
_messages = msgspec.json.Decoder(FromQuantiser)


async def quantise(asked: Quantise, tell: Callable[[Progress], None]) -> None:
    """Raises `invalid` for a model that cannot be quantised, `unavailable` when the process comes to nothing."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-B", "-m", MODULE, "--parent-pid", str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Where the package lies, so that it is importable however it was installed.
        cwd=_SOURCE_ROOT,
        env={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    words = asyncio.create_task(child.stderr.read())
    try:
        child.stdin.write(encode_line(asked))
        ended = await _follow(child.stdout, tell)
        if ended is None:
            await child.wait()
            logger.error("a quantiser ended early: %s", (await words)[-WORDS_KEPT:].decode(errors="replace"))
            raise HearthError(Code.UNAVAILABLE, "the process that quantises ended early; ask again")
        if ended.refusal:
            raise HearthError(Code.INVALID, ended.refusal)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        words.cancel()


async def _follow(output: asyncio.StreamReader, tell: Callable[[Progress], None]) -> Ended | None:
    """None: it said nothing of its end."""
    while True:
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                line = await output.readline()
            match _messages.decode(line):
                case Progress() as progress:
                    tell(progress)
                case Ended() as ended:
                    return ended
        except (TimeoutError, ValueError):  # a line without end, or none: msgspec's errors are ValueErrors
            return None
