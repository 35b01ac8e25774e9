from collections.abc import Iterator

import pytest

from runtime.llm.parallel.leader import Ranks


@pytest.fixture(scope="package")
def ranks() -> Iterator[Ranks]:
    """One process that follows this one, for many models: its imports take seconds."""
    ranks = Ranks(2)
    yield ranks
    ranks.close()
