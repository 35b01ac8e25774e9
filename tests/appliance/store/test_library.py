import sqlite3

import pytest

from appliance.store.library import has_wal_reset_bug, sqlite_version


def test_the_version_is_the_librarys() -> None:
    assert sqlite_version() == sqlite3.sqlite_version


@pytest.mark.parametrize(
    ("version", "expected"), [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 54, 0), False)]
)
def test_the_versions_with_the_bug_are_known(version: tuple[int, int, int], expected: bool) -> None:
    assert has_wal_reset_bug(version) is expected
