import stat
from pathlib import Path
from typing import Any

import pytest

from tests.appliance.cli.conftest import Hearth, Outcome


class Person:
    """Somebody with an own home, who is not the one who runs the daemon."""

    def __init__(self, hearth: Hearth, home: Path) -> None:
        self._hearth = hearth
        self.environment = {"XDG_CONFIG_HOME": str(home), "HEARTH_DATA_DIR": str(home)}
        self.file = home / "hearth" / "credentials.ini"

    def __call__(self, *words: str, stdin: str | None = None, **environment: str) -> Outcome:
        return self._hearth(*words, stdin=stdin, **self.environment, **environment)


@pytest.fixture
def person(hearth: Hearth, tmp_path: Path) -> Person:
    return Person(hearth, tmp_path)


@pytest.fixture
def key(hearth: Hearth) -> str:
    created: Any = hearth("create", "api-key", "--display-name", "of a person", "-o", "json").json
    return str(created["key"])


def test_without_a_key_one_is_told_how_to_sign_in(person: Person) -> None:
    refused = person("list", "models")
    assert refused.exit_code == 1
    assert "There is no key: hearth signin" in refused.err


def test_signing_in_keeps_a_key_that_the_daemon_knows(person: Person, hearth: Hearth, key: str) -> None:
    signed_in = person("signin", stdin=f"{key}\n")
    assert signed_in.exit_code == 0, signed_in.err
    assert signed_in.out.startswith(f"Signed in to {hearth.daemon.base_url} as accounts/hearth/users/admin")
    assert stat.S_IMODE(person.file.stat().st_mode) == 0o600
    assert person("list", "models").exit_code == 0
    # The address came with it: nothing else has to name the daemon again.
    assert person("whoami", HEARTH_BASE_URL="").exit_code == 0
    assert person("signout").out == "Signed out of profile default\n"
    assert person("list", "models").exit_code == 1
    assert person("signout").exit_code == 1


def test_a_key_that_the_daemon_does_not_know_is_not_kept(person: Person) -> None:
    for refused in (person("signin", "--api-key", "fw_wrong"), person("set-api-key", "fw_wrong")):
        assert (refused.exit_code, refused.out) == (1, "")
    assert not person.file.exists()


def test_a_key_is_not_kept_for_an_account_that_it_may_not_see(person: Person, key: str) -> None:
    assert person("signin", "nobodys", "--api-key", key).exit_code == 1
    assert not person.file.exists()
    assert person("signin", "hearth", "--api-key", key).exit_code == 0


def test_profiles_stand_side_by_side(person: Person, key: str) -> None:
    assert person("set-api-key", key, "--profile", "box").exit_code == 0
    assert person("whoami", "-p", "box", "-o", "json", HEARTH_API_KEY="fw_wrong").exit_code == 0
    assert person("whoami").exit_code == 1
    unknown = person("list", "models", "-p", "elsewhere")
    assert "there is no profile 'elsewhere': hearth signin --profile elsewhere" in unknown.err


def test_a_key_may_be_piped_in_so_that_no_list_of_processes_shows_it(person: Person, key: str) -> None:
    assert person("set-api-key", "-", stdin=f"{key}\n").exit_code == 0
    assert person("signin", stdin="").exit_code == 2


def test_one_is_told_when_the_environment_hides_what_was_kept(person: Person, key: str) -> None:
    assert "HEARTH_API_KEY is set and comes before" in person("set-api-key", key, HEARTH_API_KEY="fw_x").err


def test_whoami_says_whose_key_it_is_what_it_may_and_where(hearth: Hearth) -> None:
    whose: Any = hearth("whoami", "-o", "json").json
    assert whose == {
        "account": "accounts/hearth",
        "user": "accounts/hearth/users/admin",
        "role": "admin",
        "keyId": whose["keyId"],
        "keySource": "the local daemon's first key",
        "actsIn": "accounts/hearth",
        "baseUrl": hearth.daemon.base_url,
    }
    lines = hearth("whoami", "-a", "fireworks").out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Account", "User", "Role", "Key", "Acts in", "Base URL"]
    assert whose["keyId"] in lines[3]


def test_a_key_that_is_asked_for_is_not_shown(hearth: Hearth, person: Person, key: str) -> None:
    with hearth.in_terminal("signin", **person.environment) as terminal:
        terminal.read_until("API key: ")
        terminal.type(f"{key}\n")
        assert terminal.wait() == 0, terminal.text
    assert key not in terminal.text
    assert "Signed in" in terminal.text
