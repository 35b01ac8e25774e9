import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import DatasetFormat
from appliance.services.dataset_validation import PROBLEMS_MAX, Check, CheckedFile, Report, validate

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def validated(folder: Path, *files: bytes, format: DatasetFormat | None = None, **limits: int) -> Report:
    checked = []
    for number, content in enumerate(files, 1):
        path = folder / f"on-disk-{number}"
        path.write_bytes(content)
        checked.append(CheckedFile(f"part-{number}.jsonl", str(path)))
    settings = {"line_bytes_max": 1000, "examples_max": 1000, **limits}
    return validate(Check(files=checked, format=format, **settings))


def jsonl(*examples: Any) -> bytes:
    return b"".join(json.dumps(example).encode() + b"\n" for example in examples)


def test_several_files_are_one_dataset(tmp_path: Path) -> None:
    report = validated(tmp_path, jsonl(CHAT, CHAT), b"", jsonl(CHAT))
    assert (report.format, report.num_examples, report.num_turns) == (DatasetFormat.CHAT, 3, 3)
    assert report.num_tokens == 3 * (2 + 2 * 4)
    assert (report.problems, report.warnings) == ([], [])


def test_problems_are_told_with_file_and_line(tmp_path: Path) -> None:
    bad: Any = {"messages": [{"role": "user", "content": "Hi"}, {"role": "bot", "content": "Hello"}]}
    report = validated(tmp_path, jsonl(CHAT) + b"\n" + jsonl(bad), b"{\n" + jsonl({"prompt": "x"}))
    assert report.problems == [
        "part-1.jsonl line 3: messages[1].role: 'bot' is none of system, developer, user, assistant, tool",
        "part-2.jsonl line 1: not valid JSON: Input data was truncated",
        "part-2.jsonl line 2: messages: this field is required",
    ]


def test_a_format_that_was_asked_for_is_not_guessed(tmp_path: Path) -> None:
    report = validated(tmp_path, jsonl(CHAT), format=DatasetFormat.COMPLETION)
    assert report.problems == ["part-1.jsonl line 1: prompt: this field is required"]
    prompts = jsonl({"messages": [{"role": "user", "content": "Hi"}]})
    assert "role assistant" in validated(tmp_path, prompts, format=DatasetFormat.CHAT).problems[0]
    guessed = validated(tmp_path, prompts)
    assert guessed.format is DatasetFormat.RL
    assert guessed.warnings[0].startswith("part-1.jsonl line 1: no message of the assistant")


def test_objects_of_any_fields_are_taken_for_jobs_that_name_them(tmp_path: Path) -> None:
    report = validated(tmp_path, jsonl({"instruction": "x", "category": "y"}, {"other": 1}))
    assert (report.format, report.num_examples, report.problems) == (None, 2, [])


def test_reading_stops_at_so_many_problems(tmp_path: Path) -> None:
    report = validated(tmp_path, b"x\n" * 1000, b"y\n")
    assert len(report.problems) == PROBLEMS_MAX
    assert report.problems[-1].startswith(f"part-1.jsonl line {PROBLEMS_MAX}: ")


def test_limits_are_told_by_line(tmp_path: Path) -> None:
    long = jsonl({"a": "x" * 2000})
    assert validated(tmp_path, long).problems == ["part-1.jsonl line 1: longer than 1,000 bytes"]
    assert validated(tmp_path, jsonl(*[{}] * 5), examples_max=3).problems == [
        "part-1.jsonl line 4: more than 3 examples"
    ]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_dataset_without_examples_is_none(tmp_path: Path, content: bytes) -> None:
    assert validated(tmp_path, content).problems == ["there are no examples: every line is empty"]


def test_unused_fields_are_warned_of_once(tmp_path: Path) -> None:
    report = validated(tmp_path, jsonl(CHAT, {**CHAT, "wieght": 1}, {**CHAT, "wieght": 2, "a secret": 1}))
    assert sorted(report.warnings) == [
        "part-1.jsonl line 2: the field 'wieght' is not used (2 lines)",
        "part-1.jsonl line 3: the field this is not used (1 lines)",
    ]


@given(
    files=st.lists(
        st.lists(st.binary(max_size=40) | st.just(json.dumps(CHAT).encode()), max_size=6).map(b"\n".join), max_size=3
    ),
    format=st.sampled_from([None, *DatasetFormat]),
)
def test_any_bytes_end_in_a_report_with_line_numbers(
    tmp_path_factory: pytest.TempPathFactory, files: list[bytes], format: DatasetFormat | None
) -> None:
    folder = tmp_path_factory.getbasetemp()
    report = validated(folder, *files, format=format)
    assert report.problems or report.num_examples
    for problem in report.problems:
        place, _, reason = problem.partition(": ")
        assert reason
        if report.num_examples or place != "there are no examples":
            name, number = place.split(" line ")
            index = int(name.removeprefix("part-").removesuffix(".jsonl")) - 1
            assert 1 <= int(number) <= files[index].count(b"\n") + 1
