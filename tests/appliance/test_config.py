from pathlib import Path

import msgspec
import pytest

from appliance.config import SECTIONS, Config, client_environment, default_data_dir, load_config, where_from
from appliance.errors import Code, HearthError

FILE = """
data_dir = "/from/file"
region = "ATTIC"

[server]
port = 1
drain_s = 2.5

[fleet]
simulated_gpus = "2xNVIDIA_L4_24GB"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hearth.toml"
    path.write_text(FILE)
    return path


def test_the_file_then_the_environment_then_the_command_line_decide(file: Path) -> None:
    environ = {"HEARTH_PORT": "3", "HEARTH_REGION": "CELLAR", "HOME": "/h", "PORT": "9"}
    config = load_config(file, {"port": 4, "host": None}, environ)
    assert (config.server.port, config.server.drain_s, config.server.host) == (4, 2.5, "127.0.0.1")
    assert config.region == "CELLAR"
    assert config.fleet.simulated_gpus == "2xNVIDIA_L4_24GB"
    assert config.data_dir == Path("/from/file")
    assert load_config(file, {}, {"HEARTH_PORT": "3"}).server.port == 3
    assert load_config(file, {}, {}).server.port == 1


def test_without_anything_given_the_defaults_hold() -> None:
    assert load_config(environ={"HEARTH_DATA_DIR": "/d"}) == Config(data_dir=Path("/d"))


def test_texts_of_the_environment_become_the_types_of_the_settings() -> None:
    environ = {
        "HEARTH_DATA_DIR": "/d",
        "HEARTH_ENABLE_PREFIX_CACHE": "false",
        "HEARTH_WRITE_STALL_TIMEOUT_S": "0.5",
        "HEARTH_WORKER_COMMAND": "python -m fake",
    }
    config = load_config(environ=environ)
    assert config.fleet.enable_prefix_cache is False
    assert config.server.write_stall_timeout_s == 0.5
    assert config.fleet.worker_command == ["python", "-m", "fake"]


@pytest.mark.parametrize(
    "environ",
    [{"HEARTH_PROT": "1"}, {"HEARTH_PORT": "many"}, {"HEARTH_SERVER": "x"}, {"HEARTH_ENABLE_PREFIX_CACHE": "perhaps"}],
)
def test_what_is_no_setting_or_no_value_of_it_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(HearthError) as caught:
        load_config(environ={"HEARTH_DATA_DIR": "/d", **environ})
    assert caught.value.code is Code.INVALID


@pytest.mark.parametrize("text", ["prot = 1", "[server]\nprot = 1", "[srever]\nport = 1", "port = 1", "not toml"])
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hearth.toml"
    path.write_text(text)
    with pytest.raises(HearthError) as caught:
        load_config(path, environ={"HEARTH_DATA_DIR": "/d"})
    assert caught.value.code is Code.INVALID


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HearthError, match="cannot read"):
        load_config(tmp_path / "nothing.toml", environ={})


def test_setting_names_are_unique_so_that_a_variable_means_one_thing() -> None:
    names = [name for name in Config.__struct_fields__ if name not in SECTIONS]
    for section in SECTIONS.values():
        names += section.__struct_fields__
    assert len(names) == len(set(names))


def test_every_setting_but_the_directory_has_a_default() -> None:
    structs: list[type[msgspec.Struct]] = [Config, *SECTIONS.values()]
    for struct in structs:
        for field in msgspec.structs.fields(struct):
            assert not field.required or field.name == "data_dir"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HEARTH_DATA_DIR": "/a", "STATE_DIRECTORY": "/b"}, "/a"),
        ({"STATE_DIRECTORY": "/var/lib/hearth", "XDG_DATA_HOME": "/c"}, "/var/lib/hearth"),
        ({"XDG_DATA_HOME": "/c"}, "/c/hearth"),
    ],
)
def test_the_data_directory_is_the_first_that_is_named(environ: dict[str, str], expected: str) -> None:
    assert default_data_dir(environ) == Path(expected)


def test_without_any_name_the_data_directory_is_the_users_own() -> None:
    assert default_data_dir({}) == Path.home() / ".local/share/hearth"


def test_the_client_takes_our_key_before_the_one_of_the_original_platform() -> None:
    both = {"HEARTH_API_KEY": "ours", "FIREWORKS_API_KEY": "theirs", "HEARTH_BASE_URL": "http://box"}
    assert client_environment(both).api_key == "ours"
    assert client_environment(both).base_url == "http://box"
    theirs = client_environment({"FIREWORKS_API_KEY": "theirs"})
    assert (theirs.api_key, theirs.api_key_variable) == ("theirs", "FIREWORKS_API_KEY")
    assert (client_environment({}).api_key, client_environment({}).base_url) == (None, None)


def test_the_client_keeps_its_credentials_in_the_users_configuration() -> None:
    assert client_environment({"XDG_CONFIG_HOME": "/c"}).credentials_file == Path("/c/hearth/credentials.ini")
    assert client_environment({}).credentials_file == Path.home() / ".config/hearth/credentials.ini"
    assert client_environment({"HEARTH_PROFILE": "box"}).profile == "box"


def test_the_clients_variables_are_no_settings_of_the_daemon() -> None:
    environ = {"HEARTH_API_KEY": "k", "HEARTH_BASE_URL": "http://box", "HEARTH_DATA_DIR": "/d", "HEARTH_PROFILE": "p"}
    assert load_config(environ=environ) == Config(data_dir=Path("/d"))


def test_where_a_setting_comes_from_is_what_decides_it(file: Path, tmp_path: Path) -> None:
    (tmp_path / "master.key").write_bytes(bytes(32))
    environ = {"HEARTH_PORT": "3", "STATE_DIRECTORY": "/s", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    origins = where_from(file, environ)
    assert origins["port"] == "HEARTH_PORT"
    assert origins["drain_s"] == origins["region"] == origins["data_dir"] == str(file)
    assert origins["master_key_file"] == "CREDENTIALS_DIRECTORY"
    assert "host" not in origins
    assert where_from(None, environ)["data_dir"] == "STATE_DIRECTORY"
    assert where_from(None, {}) == {}
