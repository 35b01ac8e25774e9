from typing import Any

from tests.appliance.cli.conftest import Hearth
from tests.fakes.terminal import CTRL_C


def test_without_a_terminal_it_looks_once(hearth: Hearth, model_id: str) -> None:
    created = hearth("create", "deployment", model_id, "--deployment-id", "busy", "--min-replica-count", "1", "--wait")
    assert created.exit_code == 0, created.err
    shown = hearth("top")
    assert shown.exit_code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0].startswith("simulated-0  NVIDIA_H100_80GB  ")
    (heading,) = [line for line in lines if line.startswith("DEPLOYMENT")]
    assert heading.split() == [
        "DEPLOYMENT",
        "STATE",
        "READY",
        "LOAD",
        "REQ/S",
        "TOK/S",
        "RUNNING",
        "WAITING",
        "CACHE",
        "HITS",
    ]
    (row,) = [line.split() for line in lines if line.startswith("busy ")]
    assert row[:3] == ["busy", "READY", "1/1"]
    answer: Any = hearth("top", "-o", "json").json
    assert [device["id"] for device in answer["devices"]] == ["simulated-0", "simulated-1"]
    assert hearth("delete", "deployment", "busy", "--wait").exit_code == 0


def test_in_a_terminal_it_goes_on_until_ctrl_c(hearth: Hearth) -> None:
    with hearth.in_terminal("top", "--interval", "0.1") as terminal:
        terminal.read_until(r"(?s)DEPLOYMENT.*DEPLOYMENT")
        terminal.type(CTRL_C)
        assert terminal.wait() == 0
