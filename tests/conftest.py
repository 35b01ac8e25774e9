"""What holds for the whole suite: how Triton's kernels run, how many threads compute, and which files come first.

It runs before anything imports triton or torch, which other packages do, too: from then on both run in one way. Models
of tests are tiny and files run side by side: a second thread would only spin on the core that another file needs. Files
whose tests take long come first, so that with two at a time none of them is left for the end alone.
"""

import os
from pathlib import Path

import pytest

if not Path("/proc/driver/nvidia/version").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "/end_to_end/" not in item.path.as_posix())
