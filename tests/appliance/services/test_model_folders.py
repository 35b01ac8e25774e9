from pathlib import Path

import pytest

from appliance.services.model_folders import link_files, list_sizes, make_folder, read_config, take_in, write_config
from models.fireworks_json import ConversationConfig
from models.refusal import ModelRefused

CONFIG = ConversationConfig(template="{% for m in messages %}{{ m.content }}{% endfor %}", system="Be brief.")


def test_sizes_are_of_files_alone_and_of_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    assert list_sizes(tmp_path / "missing") == {}
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "b").write_text("four")
    (tmp_path / "link").symlink_to(tmp_path / "a.json")
    assert list_sizes(tmp_path) == {"a.json": 2, "folder/inner/b": 4}


def test_a_file_is_taken_into_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "part").write_text("whole")
    take_in(tmp_path / "part", tmp_path / "model", "a.json")
    assert (tmp_path / "model" / "a.json").read_text() == "whole"
    assert not (tmp_path / "part").exists()


def test_a_config_is_written_beside_what_else_the_file_says_and_taken_away_again(tmp_path: Path) -> None:
    (tmp_path / "fireworks.json").write_text(
        '{"tool_parser": "hermes", "conversation_config": {"tool_parser": "generic"}}'
    )
    write_config(tmp_path, CONFIG)
    assert read_config(tmp_path) == CONFIG
    assert '"hermes"' in (tmp_path / "fireworks.json").read_text()
    write_config(tmp_path, None)
    assert read_config(tmp_path) is None
    assert '"hermes"' in (tmp_path / "fireworks.json").read_text()


def test_what_cannot_be_used_leaves_what_was_there(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG)
    for wrong in (
        ConversationConfig(template="{% for"),
        ConversationConfig(style="chatml", template="x"),
        ConversationConfig(template="{% for _ in range(99999) %}{% for _ in range(99999) %}x{% endfor %}{% endfor %}"),
        ConversationConfig(template="x" * 600_000),
    ):
        with pytest.raises(ModelRefused):
            write_config(tmp_path, wrong)
        assert read_config(tmp_path) == CONFIG


def test_a_folder_of_links_costs_nothing_and_changes_by_itself(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make_folder(source)
    (source / "config.json").write_text("{}")
    write_config(source, CONFIG)
    make_folder(target)
    link_files(source, target, ["config.json", "fireworks.json"])
    assert (target / "config.json").samefile(source / "config.json")
    write_config(target, None)
    assert (read_config(source), read_config(target)) == (CONFIG, None)


def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert read_config(tmp_path) is None
    (tmp_path / "fireworks.json").write_text("[not json")
    assert read_config(tmp_path) is None


def test_folders_inside_are_made_and_linked(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        take_in(tmp_path / name, tmp_path / "model", f"controlnet/{name}/config.json")
    assert (tmp_path / "model" / "controlnet").stat().st_mode & 0o777 == 0o700
    make_folder(tmp_path / "target")
    link_files(tmp_path / "model", tmp_path / "target", sorted(list_sizes(tmp_path / "model")))
    assert list_sizes(tmp_path / "target") == {"controlnet/a/config.json": 1, "controlnet/b/config.json": 1}
