import os
import stat
from pathlib import Path

import pytest

from appliance.cli.credentials import (
    LOCAL_BASE_URL,
    Asked,
    Credentials,
    Profile,
    keep_profile,
    read_local_key,
    read_profiles,
    resolve,
)
from appliance.config import ClientEnvironment
from appliance.errors import HearthError

BOX = "http://gpu-box:8080"
NOTHING = Asked()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "hearth" / "credentials.ini"


def environment(file: Path, **given: str) -> ClientEnvironment:
    return ClientEnvironment(
        base_url=given.get("base_url"),
        api_key=given.get("api_key"),
        api_key_variable="HEARTH_API_KEY" if "api_key" in given else "",
        credentials_file=file,
        data_dir=file.parent.parent,
    )


def found(file: Path, asked: Asked = NOTHING, **given: str) -> Credentials:
    return resolve(environment(file, **given), asked)


def test_profiles_are_kept_for_their_owner_alone(file: Path) -> None:
    keep_profile(file, "default", Profile(BOX, "fw_100%_secret"))
    keep_profile(file, "other", Profile(LOCAL_BASE_URL, "fw_2", "acme"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_profiles(file) == {
        "default": Profile(BOX, "fw_100%_secret"),
        "other": Profile(LOCAL_BASE_URL, "fw_2", "acme"),
    }
    keep_profile(file, "default", None)
    assert list(read_profiles(file)) == ["other"]
    assert os.listdir(file.parent) == [file.name]


def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    keep_profile(file, "default", Profile(BOX, "fw_1"))
    file.chmod(0o644)
    with pytest.raises(HearthError, match="chmod 600"):
        read_profiles(file)


@pytest.mark.parametrize("text", ["no section", "[default]\nbase_url = x\n", "[a]\n[a]\n"])
def test_a_file_that_makes_no_sense_is_said_to_be_so(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(HearthError, match="cannot be read"):
        read_profiles(file)


def test_without_anything_it_is_this_machine_without_a_key(file: Path) -> None:
    assert found(file) == Credentials(LOCAL_BASE_URL, None, "", None, "default", is_signed_in=False)


def test_the_command_line_then_the_environment_then_the_profile_then_the_local_daemon(file: Path) -> None:
    file.parent.mkdir(parents=True)
    (file.parent.parent / "admin-api-key").write_text("fw_local\n")
    assert found(file)[:3] == (LOCAL_BASE_URL, "fw_local", "the local daemon's first key")
    keep_profile(file, "default", Profile(LOCAL_BASE_URL, "fw_profile"))
    assert found(file)[1:3] == ("fw_profile", "profile default")
    assert found(file, api_key="fw_env")[1:3] == ("fw_env", "HEARTH_API_KEY")
    assert found(file, Asked(api_key="fw_flag"), api_key="fw_env")[1:3] == ("fw_flag", "--api-key")


def test_a_profile_that_is_named_comes_before_the_environment(file: Path) -> None:
    keep_profile(file, "box", Profile(BOX, "fw_box", "acme"))
    named = found(file, Asked(profile="box"), base_url="http://elsewhere", api_key="fw_env")
    assert (named.base_url, named.api_key, named.account_id) == (BOX, "fw_box", "acme")
    assert found(file, base_url="http://elsewhere", api_key="fw_env")[:2] == ("http://elsewhere", "fw_env")


def test_a_profiles_key_goes_to_no_other_host(file: Path) -> None:
    keep_profile(file, "default", Profile(BOX, "fw_box", "acme"))
    assert found(file)[:2] == (BOX, "fw_box")
    for elsewhere in (found(file, Asked(base_url="http://evil")), found(file, base_url="http://evil")):
        assert (elsewhere.api_key, elsewhere.account_id) == (None, None)
    assert found(file, Asked(base_url=f"{BOX}/", profile="default")).api_key == "fw_box"


def test_the_local_daemons_key_never_leaves_the_machine(file: Path) -> None:
    file.parent.mkdir(parents=True)
    (file.parent.parent / "admin-api-key").write_text("fw_local\n")
    for base_url, key in [
        ("http://127.0.0.1:8080", "fw_local"),
        ("http://localhost:8080", "fw_local"),
        ("http://192.168.1.5:8080", None),
        ("https://hearth.example.com", None),
    ]:
        assert found(file, Asked(base_url=base_url)).api_key == key


def test_a_profiles_account_is_not_that_of_another_key(file: Path) -> None:
    keep_profile(file, "default", Profile(BOX, "fw_box", "acme"))
    assert found(file, Asked(api_key="fw_other")).account_id is None
    assert found(file, Asked(account_id="mine")).account_id == "mine"


def test_a_key_file_that_is_missing_or_unreadable_is_no_key(file: Path) -> None:
    file.parent.mkdir(parents=True)
    assert read_local_key(environment(file)) is None
    (file.parent.parent / "admin-api-key").mkdir()
    assert read_local_key(environment(file)) is None
