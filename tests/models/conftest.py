from pathlib import Path

import pytest


@pytest.fixture(scope="package")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.fakes.tiny_vlm import build_tiny_vlm  # heavy: not for tests that need no model

    return build_tiny_vlm(tmp_path_factory.mktemp("llava"), "llava")


@pytest.fixture(scope="package")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.fakes.tiny_vlm import build_tiny_vlm  # heavy: not for tests that need no model

    return build_tiny_vlm(tmp_path_factory.mktemp("qwen2_vl"), "qwen2_vl")
