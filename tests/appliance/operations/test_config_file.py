"""Every setting is documented where it is declared, and the file for beginners says so and changes nothing."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from appliance.config import SECTIONS, Config, PriceSettings, TokenPrice, load_config
from appliance.operations.config_file import FROM_DEFAULT, effective, example, meanings, written

ROOT = Path(__file__).parent.parent.parent.parent
STRUCTS: list[type[msgspec.Struct]] = [Config, *SECTIONS.values()]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_setting_and_every_table_is_documented(struct: type[msgspec.Struct]) -> None:
    own = {name for name in struct.__struct_fields__ if name not in SECTIONS}
    assert meanings(struct).keys() >= own
    assert struct.__doc__


def test_the_file_as_it_comes_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text(example())
    environ = {"HEARTH_DATA_DIR": "/d"}
    assert load_config(tmp_path / "hearth.toml", environ=environ) == load_config(environ=environ)


def test_without_its_comments_it_still_changes_nothing(tmp_path: Path) -> None:
    """So that what it calls a default is one, in the right table and spelled right."""
    lines = [line for line in example().splitlines() if not line.endswith("(not set)")]
    text = "\n".join(re.sub(r"^#(?=\w)", "", line) for line in lines if "worker_command" not in line)
    assert len(tomllib.loads(text)["fleet"]) > 10
    (tmp_path / "hearth.toml").write_text(text)
    environ = {"HEARTH_DATA_DIR": "/d"}
    assert load_config(tmp_path / "hearth.toml", environ=environ) == load_config(environ=environ)


def test_the_services_file_is_this_one() -> None:
    """If not: `hearth config example > systemd/hearth.toml`."""
    assert (ROOT / "systemd" / "hearth.toml").read_text() == example()


def test_lines_fit_a_terminal() -> None:
    assert max(len(line) for line in example().splitlines()) <= 102


def test_what_holds_is_told_with_its_origin() -> None:
    config = load_config(environ={"HEARTH_DATA_DIR": "/d", "HEARTH_PORT": "9"})
    settings = {setting.name: setting for setting in effective(config, {"port": "HEARTH_PORT"})}
    assert settings["port"] == ("server", "port", 9, "HEARTH_PORT")
    assert settings["host"] == ("server", "host", "127.0.0.1", FROM_DEFAULT)
    assert settings["region"] == ("", "region", "LOCAL", FROM_DEFAULT)
    assert len(settings) == sum(len(struct.__struct_fields__) for struct in STRUCTS) - len(SECTIONS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (True, "true"),
        (1.5, "1.5"),
        (Path("/d"), '"/d"'),
        (["a", 'b"'], '["a", "b\\""]'),
        ({}, "{}"),
    ],
)
def test_values_are_written_as_toml_has_them(value: object, expected: str) -> None:
    assert written(value) == expected


def test_tables_within_a_value_are_written_inline() -> None:
    prices = PriceSettings(token_prices={"default": TokenPrice(prompt=0.2)})
    read = tomllib.loads(f"token_prices = {written(prices.token_prices)}")
    assert read["token_prices"]["default"] == {"prompt": 0.2, "completion": 0.0, "audio_minute": 0.0, "image": 0.0}
