"""Fixtures for all tests of the engine."""

import pytest

from runtime.llm.native import library


@pytest.fixture(params=["vectors", "tiles"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What C multiplies with: AVX-512, which every processor has that it runs on, or AMX."""
    if request.param == "vectors":
        monkeypatch.setattr(library, "has_amx", lambda: False)
    elif not library.has_amx():
        pytest.skip("needs a CPU with AMX")
    return str(request.param)
