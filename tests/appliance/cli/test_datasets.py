import json
from pathlib import Path
from typing import Any

import pytest

from tests.appliance.cli.conftest import Hearth

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
LINE = json.dumps(CHAT) + "\n"


@pytest.fixture
def train(tmp_path: Path) -> Path:
    file = tmp_path / "train.jsonl"
    file.write_text(LINE * 3)
    return file


def test_a_dataset_is_uploaded_shown_listed_renamed_and_deleted(hearth: Hearth, train: Path) -> None:
    outcome = hearth("create", "dataset", "mine", str(train), "--display-name", "Questions")
    assert outcome.exit_code == 0, outcome.err
    assert "uploaded" in outcome.err
    lines = [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    assert ["Name:", "accounts/hearth/datasets/mine"] in lines
    assert ["State:", "READY"] in lines
    assert ["Format:", "CHAT"] in lines
    assert ["Examples:", "3"] in lines
    assert ["Tokens:", "about 30"] in lines
    assert ["File:", f"train.jsonl, {3 * len(LINE)} bytes"] in lines

    (row,) = [line.split() for line in hearth("list", "datasets").out.splitlines() if line.startswith("mine ")]
    assert row[1:4] == ["READY", "CHAT", "3"]
    assert "Answers" in hearth("dataset", "update", "mine", "--display-name", "Answers").out
    shown: Any = hearth("get", "dataset", "mine", "-o", "json").json
    assert (shown["displayName"], shown["exampleCount"]) == ("Answers", "3")
    assert hearth("delete", "dataset", "mine").out == "Deleted mine\n"
    assert hearth("get", "dataset", "mine").exit_code == 1


def test_what_is_wrong_with_lines_is_shown_line_by_line_and_the_same_command_goes_on(
    hearth: Hearth, tmp_path: Path
) -> None:
    (tmp_path / "good.jsonl").write_text(LINE)
    bad = tmp_path / "train.jsonl"
    bad.write_text(LINE + '{"messages": []}\n' + "{}\n")
    refused = hearth("create", "dataset", "mended", str(tmp_path), "--quiet")
    assert refused.exit_code == 1
    assert refused.err.splitlines() == [
        "accounts/hearth/datasets/mended stays UPLOADING: correct the files and repeat, "
        "or hearth delete dataset mended",
        "  train.jsonl line 2: messages: must not be empty",
        "  train.jsonl line 3: messages: this field is required",
        "Error: 2 lines cannot be taken",
    ]
    bad.write_text("{}\n")
    refused = hearth("create", "dataset", "mended", str(tmp_path), "--quiet")
    assert refused.err.splitlines()[-1] == "Error: train.jsonl line 1: messages: this field is required"
    bad.write_text(LINE * 2)
    mended = hearth("create", "dataset", "mended", str(tmp_path), "--quiet")
    assert mended.exit_code == 0, mended.err
    assert mended.err == "accounts/hearth/datasets/mended waits for its files; going on with them\n"
    assert "3" in mended.out
    again = hearth("create", "dataset", "mended", str(tmp_path), "--quiet")
    assert again.exit_code == 1
    assert "already exists" in again.err


def test_a_dataset_is_downloaded_looked_into_and_split(hearth: Hearth, train: Path, tmp_path: Path) -> None:
    assert hearth("create", "dataset", "whole", str(train), "--quiet").exit_code == 0
    target = tmp_path / "here" / "and-there"
    downloaded = hearth("download", "dataset", "whole", "--output-dir", str(target))
    assert (downloaded.exit_code, downloaded.out) == (0, f"{target}/train.jsonl\n")
    assert (target / "train.jsonl").read_bytes() == train.read_bytes()
    assert [path.name for path in target.iterdir()] == ["train.jsonl"]
    assert hearth("dataset", "download", "whole", "--output-dir", str(target)).exit_code == 0

    preview = hearth("preview", "dataset", "whole", "--max-examples", "2")
    assert [json.loads(line) for line in preview.out.splitlines()] == [CHAT, CHAT]
    split = hearth("split", "dataset", "whole", "--chunk-size", "2")
    assert split.out.splitlines() == [f"accounts/hearth/datasets/whole-chunk-{number}" for number in (1, 2)]
    lineage = hearth(
        "download", "dataset", "whole-chunk-2", "--download-lineage", "--output-dir", str(target), "-o", "json"
    )
    found: Any = lineage.json
    assert found["files"] == [f"{target}/whole-chunk-2/whole-chunk-2.jsonl", f"{target}/whole/train.jsonl"]


def test_a_folder_without_examples_is_refused_before_anything_is_created(hearth: Hearth, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    refused = hearth("create", "dataset", "nothing", str(tmp_path))
    assert (refused.exit_code, refused.err) == (1, f"Error: {tmp_path} has no .jsonl files\n")
    assert hearth("get", "dataset", "nothing").exit_code == 1
    (tmp_path / "train.jsonl").write_text(LINE)
    created = hearth("create", "dataset", "nothing", str(tmp_path), "--quiet")
    assert created.err == "No .jsonl files, left out: notes.txt\n"
