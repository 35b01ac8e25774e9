"""A reload takes over what is read each time, and names the rest."""

from pathlib import Path

import msgspec

from appliance.config import SECTIONS, Config, ImageSettings, LimitSettings, LogLevel, LogSettings, ServerSettings
from appliance.live_config import RELOADABLE_SETTINGS, RELOADABLE_TABLES, LiveConfig

CONFIG = Config(data_dir=Path("/d"))


def test_what_is_read_each_time_changes_at_once() -> None:
    live = LiveConfig(CONFIG)
    fresh = Config(
        data_dir=Path("/d"),
        limits=LimitSettings(n_max=2),
        images=ImageSettings(images_max=1),
        log=LogSettings(log_level=LogLevel.DEBUG),
        server=ServerSettings(allowed_hosts=["box.example"]),
    )
    reload = live.take(fresh)
    assert reload.taken == ["allowed_hosts", "images_max", "log_level", "n_max"]
    assert not reload.needs_restart
    assert live.current == fresh


def test_what_was_handed_out_at_the_start_stays_and_is_named() -> None:
    live = LiveConfig(CONFIG)
    fresh = Config(data_dir=Path("/e"), server=ServerSettings(port=1, allowed_hosts=["box.example"]))
    reload = live.take(fresh)
    assert reload.taken == ["allowed_hosts"]
    assert reload.needs_restart == ["data_dir", "port"]
    assert live.current == msgspec.structs.replace(CONFIG, server=ServerSettings(allowed_hosts=["box.example"]))


def test_a_reload_of_the_same_changes_nothing() -> None:
    live = LiveConfig(CONFIG)
    reload = live.take(Config(data_dir=Path("/d")))
    assert not reload.taken
    assert not reload.needs_restart
    assert live.current == CONFIG


def test_what_is_derived_is_computed_once_per_configuration() -> None:
    live = LiveConfig(CONFIG)
    computed: list[int] = []

    def compute(config: Config) -> int:
        computed.append(config.limits.n_max)
        return config.limits.n_max

    read = live.derived(compute)
    assert [read(), read()] == [128, 128]
    live.take(Config(data_dir=Path("/d"), limits=LimitSettings(n_max=3)))
    assert [read(), read()] == [3, 3]
    assert computed == [128, 3]


def test_the_reloadable_ones_are_settings() -> None:
    structs: list[type[msgspec.Struct]] = [Config, *SECTIONS.values()]
    names = {name for struct in structs for name in struct.__struct_fields__}
    assert names >= RELOADABLE_SETTINGS
    assert SECTIONS.keys() >= RELOADABLE_TABLES
