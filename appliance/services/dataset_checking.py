"""Checking datasets in a process of its own: strangers' files take neither the daemon's time nor its memory.

Parent and child speak once: what to check as JSON to the child's input, the reports from its output. The child is
confined, and it is killed when nobody waits for it any longer.
"""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from appliance.config import DatasetSettings
from appliance.domain import Dataset
from appliance.errors import Code, HearthError
from appliance.services.dataset_validation import Check, CheckedFile, Report, validate
from models.framed_child import confine

MODULE = "appliance.services.dataset_checking"
ADDRESS_SPACE_BYTES = 2 * 1024**3
"""For one line at the limit that is nothing but small values."""
START_TIMEOUT_S = 60.0
BYTES_PER_SECOND_MIN = 1024**2
"""Slower than this, a check is given up."""


class DatasetChecker:
    """Few at a time, for each takes a processor."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.dataset_checks_max)

    async def check(self, several: list[Dataset], directory: Path) -> list[Report]:
        """What the files of each hold; `directory`: where the datasets' folders are."""
        checks = [
            Check(
                files=[
                    CheckedFile(file.filename, str(directory / dataset.directory / file.filename))
                    for file in dataset.files
                ],
                format=dataset.format,
                line_bytes_max=self._settings.dataset_line_bytes_max,
                examples_max=self._settings.dataset_examples_max,
            )
            for dataset in several
        ]
        async with self._slots:
            return await check_datasets(checks, sum(dataset.size_bytes for dataset in several))


async def check_datasets(checks: list[Check], num_bytes: int) -> list[Report]:
    """One report for each; `num_bytes`: of all files together. Raises `unavailable` when the child comes to nothing."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-B", "-m", MODULE, str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # Where the package lies, so that it is importable however it was installed; no environment needed.
        cwd=Path(__file__).parent.parent.parent,
        env={},
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S + num_bytes / BYTES_PER_SECOND_MIN):
            output, _ = await child.communicate(msgspec.json.encode(checks))
        return msgspec.json.decode(output, type=list[Report])
    except (TimeoutError, msgspec.DecodeError) as error:
        raise HearthError(Code.UNAVAILABLE, "the dataset could not be checked now; ask again") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def main() -> None:
    confine(int(sys.argv[1]), address_space_bytes=ADDRESS_SPACE_BYTES)
    checks = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Check])
    sys.stdout.buffer.write(msgspec.json.encode([validate(check) for check in checks]))


if __name__ == "__main__":
    main()
