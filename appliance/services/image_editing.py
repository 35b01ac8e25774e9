"""Pictures are edited in a process of its own, which takes neither the daemon's time nor its memory.

The process is confined, ends after one picture, and is killed when nobody waits for it any longer or when it is slow.
"""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from appliance.config import ImageSettings
from appliance.errors import Code, HearthError
from models.image_edits import Edit, Outcome

MODULE = "models.image_editing"
TIMEOUT_S = 20.0
"""With the start, on a busy machine."""
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""Every thread of numpy's would take its share of the memory that the process is confined to."""


class ImageEditor:
    """Few at a time, for each takes a processor."""

    def __init__(self, settings: ImageSettings) -> None:
        self._slots = asyncio.Semaphore(settings.image_edits_max)

    async def edit(self, wanted: Edit, param: str) -> bytes:
        """A PNG file. Raises `invalid` naming `param` for a picture that it cannot be done with."""
        async with self._slots:
            output = await _run(msgspec.msgpack.encode(wanted), param)
        try:
            outcome = msgspec.msgpack.decode(output, type=Outcome)
        except msgspec.DecodeError as error:
            raise HearthError(Code.INVALID, f"{param}: the picture cannot be decoded", param) from error
        if outcome.error is not None:
            raise HearthError(Code.INVALID, f"{param}: {outcome.error}", param)
        return outcome.png


async def _run(wanted: bytes, param: str) -> bytes:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-B", "-m", MODULE, str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # Where the package lies, so that it is importable however it was installed.
        cwd=Path(__file__).parent.parent.parent,
        env=_ENVIRONMENT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await child.communicate(wanted)
        return output
    except TimeoutError as error:
        message = f"{param}: the picture took longer than {TIMEOUT_S:g} s"
        raise HearthError(Code.INVALID, message, param) from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
