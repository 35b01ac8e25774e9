import json
from pathlib import Path
from typing import Any

import pytest

from models.fireworks_json import (
    ConversationConfig,
    StatedConversation,
    read_fireworks_json,
    stated_config,
    with_config,
)
from models.folder import ModelFolder
from models.refusal import ModelRefused, RefusalReason


def read(directory: Path, value: Any = None) -> StatedConversation:
    if value is not None:
        (directory / "fireworks.json").write_text(json.dumps(value))
    with ModelFolder(directory) as folder:
        return read_fireworks_json(folder, folder.list_entries()[0], template_bytes_max=1000)


def test_a_folder_without_the_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == StatedConversation()


def test_parsers_are_named_at_the_top_or_in_the_conversation(tmp_path: Path) -> None:
    stated = StatedConversation(tool_parser="hermes", reasoning_parser="deepseek_r1")
    names = {"tool_parser": "hermes", "reasoning_parser": "deepseek_r1"}
    assert read(tmp_path, names) == stated
    assert read(tmp_path, {"conversation_config": names, "tool_parser": "mistral", "other": [1]}) == stated


def test_only_a_jinja_template_is_taken(tmp_path: Path) -> None:
    args = {"template": "T"}
    assert read(tmp_path, {"conversation_config": {"style": "jinja", "args": args}}).template == "T"
    assert read(tmp_path, {"conversation_config": {"style": "jinja", "args": {"template": ""}}}).template is None
    other = read(tmp_path, {"conversation_config": {"style": "chatml", "args": args}})
    assert other.template is None
    assert "chatml" in other.warnings[0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"tool_parser": "unheard-of"}, RefusalReason.INVALID_CONFIG),
        ({"reasoning_parser": "unheard-of"}, RefusalReason.INVALID_CONFIG),
        ({"tool_parser": 1}, RefusalReason.INVALID_CONFIG),
        ({"conversation_config": []}, RefusalReason.INVALID_CONFIG),
        ({"conversation_config": {"style": "jinja", "args": {"template": "x" * 1001}}}, RefusalReason.TOO_LARGE),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, value: Any, reason: RefusalReason) -> None:
    with pytest.raises(ModelRefused) as refused:
        read(tmp_path, value)
    assert (refused.value.reason, refused.value.file) == (reason, "fireworks.json")


def test_a_system_prompt_is_said_beside_the_template(tmp_path: Path) -> None:
    args = {"template": "T", "system": "Be brief."}
    assert read(tmp_path, {"conversation_config": {"style": "jinja", "args": args}}).system == "Be brief."
    assert read(tmp_path, {"conversation_config": {"style": "jinja", "args": {"system": ""}}}).system is None


def test_a_config_is_put_into_the_file_and_read_back(tmp_path: Path) -> None:
    config = ConversationConfig(template="T, with [brackets] {and} commas", system="S")
    content = with_config(b'{"tool_parser": "hermes", "conversation_config": {"reasoning_parser": "none"}}', config)
    assert stated_config(content) == config
    stated = read(tmp_path, json.loads(content))
    assert (stated.template, stated.system) == (config.template, config.system)
    assert (stated.tool_parser, stated.reasoning_parser) == ("hermes", "none")
    assert stated_config(with_config(content, None)) is None
    assert json.loads(with_config(content, None))["tool_parser"] == "hermes"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"conversation_config": 1}', b'{"a": 1, "a": 2}'])
def test_what_is_no_such_file_is_refused(content: bytes) -> None:
    with pytest.raises(ModelRefused):
        with_config(content, None)
