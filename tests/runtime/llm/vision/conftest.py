from pathlib import Path

import pytest

from tests.fakes.tiny_vlm import VisionFamily, build_tiny_vlm

FAMILIES: list[VisionFamily] = ["llava", "qwen2_vl"]


@pytest.fixture(scope="package")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[VisionFamily, Path]:
    """A tiny model of each family, built once."""
    return {family: build_tiny_vlm(tmp_path_factory.mktemp(family), family, seed=1) for family in FAMILIES}


@pytest.fixture(scope="package")
def llava(directories: dict[VisionFamily, Path]) -> Path:
    return directories["llava"]


@pytest.fixture(scope="package")
def qwen(directories: dict[VisionFamily, Path]) -> Path:
    return directories["qwen2_vl"]
