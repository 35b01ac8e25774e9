"""What holds for the whole suite: how Triton's kernels run, and which files come first.

It runs before anything imports triton, which other packages do: from then on its kernels run in one way. Files whose
tests take long come first, so that with two at a time none of them is left for the end alone.
"""

import os
from pathlib import Path

import pytest

if not Path("/proc/driver/nvidia/version").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "/end_to_end/" not in item.path.as_posix())
