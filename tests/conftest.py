"""Files whose tests take long come first, so that with two at a time none of them is left for the end alone."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "/end_to_end/" not in item.path.as_posix())
