import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.sdk.client import Client
from tests.appliance.cli.conftest import Hearth
from tests.fakes.fake_worker import Act, FakeModel, Script, answer
from tests.fakes.terminal import CTRL_C, CTRL_D, Terminal

MODEL = "chat-model"
SLOW_MODEL = "slow-chat-model"


@pytest.fixture(scope="module", autouse=True)
def models(hearth: Hearth, checkpoint: Path) -> None:
    for model_id, fake_model in ((MODEL, FakeModel()), (SLOW_MODEL, FakeModel(step_ms=150.0))):
        assert hearth("create", "model", model_id, str(checkpoint), "--quiet").exit_code == 0
        hearth.daemon.script_model(model_id, fake_model)
        created = hearth("create", "deployment", model_id, "--deployment-id", model_id, "--wait")
        assert created.exit_code == 0, created.err


@contextmanager
def chatting(hearth: Hearth, model: str, *words: str) -> Iterator[Terminal]:
    with hearth.in_terminal("chat", model, *words) as opened:
        opened.read_until(r"Ctrl-D leaves\n> $")
        yield opened


def test_one_question_prints_the_answer_and_nothing_else(hearth: Hearth) -> None:
    outcome = hearth("chat", MODEL, "--once", "Hello?")
    assert (outcome.exit_code, outcome.out, outcome.err) == (0, answer("Hello?") + "\n", "")


def test_text_piped_in_is_one_question(hearth: Hearth) -> None:
    assert hearth("chat", MODEL, stdin="Hello\nfrom a file").out == answer("Hello\nfrom a file") + "\n"
    nothing = hearth("chat", MODEL, stdin=" \n")
    assert nothing.exit_code == 2
    assert "there is no question" in nothing.err


def test_an_answer_as_json_has_its_usage(hearth: Hearth) -> None:
    said: Any = hearth("chat", MODEL, "--once", "Hello there", "--max-tokens", "3", "-o", "json").json
    assert said["answer"] == answer("Hello there", num_tokens=3)
    assert said["usage"] == {"prompt_tokens": 2, "completion_tokens": 3}


@pytest.mark.parametrize("name", ["accounts/hearth/models/{}", "accounts/hearth/deployments/{}"])
def test_a_model_is_named_in_every_way_the_api_knows(hearth: Hearth, name: str) -> None:
    assert hearth("chat", name.format(MODEL), "--once", "Hi").out == answer("Hi") + "\n"


def test_what_is_not_there_is_said_in_one_line(hearth: Hearth) -> None:
    outcome = hearth("chat", "no-such-model", "--once", "Hello?")
    assert (outcome.exit_code, outcome.out) == (1, "")
    assert outcome.err == "Error: Model not found, inaccessible, and/or not deployed\n"


def test_an_answer_that_breaks_off_keeps_what_was_said_and_fails(hearth: Hearth) -> None:
    outcome = hearth("chat", MODEL, "--once", Script(act=Act.EXIT, at=3).text())
    assert outcome.exit_code == 1
    assert len(outcome.out.split()) == 3
    assert outcome.err.splitlines()[-1].startswith("Error: ")


def test_a_model_that_must_be_loaded_first_is_waited_for(hearth: Hearth) -> None:
    hearth.daemon.script_model(MODEL, FakeModel(load_s=1.5))
    with Client(hearth.daemon.base_url, hearth.daemon.api_key) as client:
        client.deployments.scale(MODEL, 0)
        while client.deployments.get(MODEL).replica_count:
            time.sleep(0.02)
    outcome = hearth("chat", MODEL, "--once", "Awake?")
    hearth.daemon.script_model(MODEL, FakeModel())
    assert outcome.out == answer("Awake?") + "\n"
    assert "Error" not in outcome.err
    assert MODEL in outcome.err, "what it waited for"


def test_an_answer_appears_as_it_is_made_ctrl_c_stops_it_and_ctrl_d_leaves(hearth: Hearth) -> None:
    with chatting(hearth, SLOW_MODEL) as screen:
        screen.type(f"{Script(num_tokens=200).text()}\n")
        text = screen.read_until(r"\d+\.0\.1 ")
        assert ".0.199 " not in text, "the first words are there long before the last is made"
        screen.type(CTRL_C)
        screen.read_until(r"stopped; Ctrl-D leaves\n> $")
        screen.type(f"{Script(num_tokens=2).text()}\n")
        screen.read_until(r"\d+\.0\.1 \n> $")
        screen.type(CTRL_D)
        assert screen.wait() == 0


def test_an_error_does_not_end_the_conversation(hearth: Hearth) -> None:
    with chatting(hearth, MODEL) as screen:
        screen.type(f"{Script(act=Act.FAIL, at=0).text()}\n")
        screen.read_until(r"Error: .*as asked\n> $")
        screen.type("Hello?\n")
        screen.read_until(rf"{answer('Hello?')}\n> $")
        screen.type(CTRL_D)
        assert screen.wait() == 0
        assert "Traceback" not in screen.text
