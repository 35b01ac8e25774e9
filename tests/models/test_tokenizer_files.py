import json
from pathlib import Path
from typing import Any

import pytest

from models.folder import ModelFolder
from models.refusal import ModelRefused, RefusalReason
from models.tokenizer_files import TEMPLATE_BYTES_MAX, ConversationFiles, count_token_ids, read_conversation_files


def write(directory: Path, name: str, value: object) -> None:
    (directory / name).write_text(value if isinstance(value, str) else json.dumps(value))


def count(directory: Path) -> int:
    with ModelFolder(directory) as folder:
        return count_token_ids(folder, folder.list_entries()[0])


def read(directory: Path) -> ConversationFiles:
    with ModelFolder(directory) as folder:
        return read_conversation_files(folder, folder.list_entries()[0])


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}}, 2),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 9, "content": "<s>"}]}, 10),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 41}}, "added_tokens": None}, 42),
        ({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.5], ["b", -2]]}}, 3),
    ],
)
def test_the_largest_id_counts(tmp_path: Path, tokenizer: dict[str, Any], expected: int) -> None:
    write(tmp_path, "tokenizer.json", tokenizer)
    assert count(tmp_path) == expected


@pytest.mark.parametrize(
    "tokenizer",
    [
        {},
        {"model": None},
        {"model": {"vocab": {}}},
        {"model": {"vocab": []}},
        {"model": {"vocab": 5}},
        {"model": {"vocab": {"a": "0"}}},
        {"model": {"vocab": {"a": -1}}},
        {"model": {"vocab": {"a": True}}},
        {"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "x"}]},
        {"model": {"vocab": {"a": 0}}, "added_tokens": ["x"]},
        {"model": {"vocab": {"a": 0}}, "added_tokens": {"id": 1}},
    ],
)
def test_a_tokenizer_without_sound_ids_is_refused(tmp_path: Path, tokenizer: dict[str, Any]) -> None:
    write(tmp_path, "tokenizer.json", tokenizer)
    with pytest.raises(ModelRefused) as refused:
        count(tmp_path)
    assert (refused.value.reason, refused.value.file) == (RefusalReason.INVALID_TOKENIZER, "tokenizer.json")


def test_a_sentencepiece_model_alone_is_refused_saying_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(ModelRefused, match=r"tokenizer\.model alone is not enough") as refused:
        count(tmp_path)
    assert refused.value.reason == RefusalReason.MISSING_FILE


def test_template_and_special_tokens_may_be_absent(tmp_path: Path) -> None:
    assert read(tmp_path) == ConversationFiles(None, None, {}, False, "generic", "none", False, [])


def test_the_dialects_are_those_of_the_template_or_of_the_operator(tmp_path: Path) -> None:
    write(tmp_path, "chat_template.jinja", "{{ '<tool_call>' }}{{ '</think>' }}")
    assert read(tmp_path)[4:6] == ("hermes", "qwen3")
    write(tmp_path, "fireworks.json", {"tool_parser": "generic", "reasoning_parser": "none"})
    assert read(tmp_path)[4:6] == ("generic", "none")


def test_a_template_in_fireworks_json_wins(tmp_path: Path) -> None:
    write(tmp_path, "chat_template.jinja", "{{ '<tool_call>' }}")
    config = {"style": "jinja", "args": {"template": "{{ '[TOOL_CALLS]' }}"}}
    write(tmp_path, "fireworks.json", {"conversation_config": config})
    assert read(tmp_path)[0] == "{{ '[TOOL_CALLS]' }}"
    assert read(tmp_path).tool_parser == "mistral"


def test_special_tokens_are_text_or_objects(tmp_path: Path) -> None:
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "unk_token": None, "pad_token": 5}
    write(tmp_path, "tokenizer_config.json", config)
    assert read(tmp_path).special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}


def test_the_template_file_wins_over_the_config(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", {"chat_template": "from config"})
    assert read(tmp_path).template == "from config"
    write(tmp_path, "chat_template.jinja", "from file")
    assert read(tmp_path).template == "from file"


@pytest.mark.parametrize(
    ("names", "expected"), [(["default", "tool_use"], "T-default"), (["tool_use"], None), ([], None)]
)
def test_of_named_templates_the_default_is_taken(tmp_path: Path, names: list[str], expected: str | None) -> None:
    named = [{"name": name, "template": f"T-{name}"} for name in names]
    write(tmp_path, "tokenizer_config.json", {"chat_template": named})
    assert read(tmp_path).template == expected


def test_a_template_that_is_not_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", {"chat_template": {"a": 1}})
    with pytest.raises(ModelRefused) as refused:
        read(tmp_path)
    assert refused.value.reason == RefusalReason.INVALID_TOKENIZER


def test_a_template_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelRefused) as refused:
        read(tmp_path)
    assert (refused.value.reason, refused.value.file) == (RefusalReason.INVALID_TOKENIZER, "chat_template.jinja")


@pytest.mark.parametrize("in_config", [True, False])
def test_a_huge_template_is_refused(tmp_path: Path, in_config: bool) -> None:
    source = "x" * (TEMPLATE_BYTES_MAX + 1)
    if in_config:
        write(tmp_path, "tokenizer_config.json", {"chat_template": source})
    else:
        write(tmp_path, "chat_template.jinja", source)
    with pytest.raises(ModelRefused) as refused:
        read(tmp_path)
    assert refused.value.reason == RefusalReason.TOO_LARGE


def test_remote_code_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}})
    assert read(tmp_path).names_remote_code
