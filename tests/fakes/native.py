"""For tests of what is in C."""

import pytest

from runtime.llm.native import library

needs_native = pytest.mark.skipif(
    library.load() is None, reason="needs a CPU with avx512_bf16, and a C compiler when Hearth was installed"
)
