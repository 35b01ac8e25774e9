from pathlib import Path

import msgspec

from appliance.operations.config_file import example
from tests.appliance.cli.conftest import Hearth


def test_every_setting_is_shown_with_its_origin(hearth: Hearth, tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text("[server]\nport = 81\n")
    shown = hearth("config", "show", "--config", str(tmp_path / "hearth.toml"), HEARTH_N_MAX="7")
    assert shown.exit_code == 0, shown.err
    lines = {line.split()[0]: line.split()[1:] for line in shown.out.splitlines()}
    assert lines["SETTING"] == ["VALUE", "FROM"]
    assert lines["server.port"] == ["81", str(tmp_path / "hearth.toml")]
    assert lines["limits.n_max"] == ["7", "HEARTH_N_MAX"]
    assert lines["data_dir"] == [f'"{hearth.daemon.data_dir}"', "HEARTH_DATA_DIR"]
    assert lines["server.host"] == ['"127.0.0.1"', "default"]


def test_only_what_was_changed_can_be_asked_for(hearth: Hearth) -> None:
    settings = msgspec.json.decode(hearth("config", "show", "--only-changed", "-o", "json").out)
    directory = f'"{hearth.daemon.data_dir}"'
    assert settings == [{"table": "", "name": "data_dir", "value": directory, "from": "HEARTH_DATA_DIR"}]


def test_a_file_with_a_mistake_is_one_line(hearth: Hearth, tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text("prot = 1\n")
    refused = hearth("config", "show", "--config", str(tmp_path / "hearth.toml"))
    assert (refused.exit_code, refused.out) == (1, "")
    assert "prot" in refused.err


def test_the_example_is_the_whole_file(hearth: Hearth) -> None:
    assert hearth("config", "example").out == example()
