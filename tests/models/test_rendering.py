import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from models.chat_template import ChatTemplate
from models.conversation import Conversation, TemplateError
from models.rendering import ADDRESS_SPACE_BYTES, RENDER_TIMEOUT_S, Renderer
from tests.fakes.tiny_llm import CHAT_TEMPLATE

HELLO = Conversation([{"role": "user", "content": "hello"}])
BOMB = Conversation([{"role": "user", "content": "bomb"}])
PATIENCE_S = 30.0
"""For what should take milliseconds, on a machine that is busy with other things."""


def write_model(directory: Path, template: str | None) -> Path:
    config = {"bos_token": "<s>"} | ({"chat_template": template} if template is not None else {})
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def children() -> list[psutil.Process]:
    """This process's renderers; a test session may have other children."""
    return [child for child in psutil.Process().children() if "models.rendering" in child.cmdline()]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def render_patiently(renderer: Renderer, conversation: Conversation) -> str:
    """Render, allowing a busy machine several attempts at starting the child."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return renderer.render(conversation)
        except TemplateError as error:
            if "did not start" not in str(error) or time.monotonic() > deadline:
                raise


@pytest.fixture
def renderer(tmp_path: Path) -> Iterator[Renderer]:
    with Renderer(write_model(tmp_path, CHAT_TEMPLATE)) as renderer:
        yield renderer


def test_the_child_renders_what_the_template_renders_here(renderer: Renderer) -> None:
    expected = ChatTemplate(CHAT_TEMPLATE, {"bos_token": "<s>"})
    called: dict[str, object] = {"function": {"name": "f", "arguments": {"x": [1, None, 2.5]}}}
    conversations = [
        HELLO,
        Conversation([{"role": "system", "content": "Grüße 🔥 \0"}, {"role": "user", "content": "x" * 1_000_000}]),
        Conversation([]),
        Conversation(
            [{"role": "assistant", "content": None, "tool_calls": [called]}], [called], {"enable_thinking": True}
        ),
    ]
    for conversation in conversations:
        assert render_patiently(renderer, conversation) == expected.render(conversation)


def test_construction_does_not_wait_for_the_child(tmp_path: Path) -> None:
    directory = write_model(tmp_path, CHAT_TEMPLATE)
    began = time.monotonic()
    with Renderer(directory):
        assert time.monotonic() - began < 0.5


# Each is harmless for HELLO and hostile for BOMB, so that the next render can show the renderer's recovery.
HOSTILE = {
    "wide format": "{{ '%1000000000d' | format(1) }}",
    "long string": "{{ 'a' * 10 ** 9 }}",
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "huge power": "{% set n = messages | length + 9 %}{{ n ** (n ** n) }}",
    "recursive macro": "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}",
    "endless output": "{% for a in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "memory in steps": "{% set n = namespace(l=[1]) %}{% for a in range(60) %}{% set n.l = n.l + n.l %}{% endfor %}",
    "refusal": "{{ raise_exception('no bombs') }}",
    "self": "{{ self.__init__.__globals__ }}",
    "lipsum": "{{ lipsum(n=100000) }}{{ lipsum.__globals__ }}",
    "cycler": "{{ cycler.__init__.__globals__.os.system('kill 1') }}",
    "half a surrogate pair": r"{{ '\ud800' }}",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_ends_in_an_error_and_the_next_render_works(tmp_path: Path, hostile: str) -> None:
    template = "{% if messages[0].content == 'bomb' %}" + hostile + "{% else %}fine{% endif %}"
    with Renderer(write_model(tmp_path, template)) as renderer:
        assert render_patiently(renderer, HELLO) == "fine"
        began = time.monotonic()
        with pytest.raises(TemplateError):
            renderer.render(BOMB)
        assert time.monotonic() - began < RENDER_TIMEOUT_S + 1
        assert render_patiently(renderer, HELLO) == "fine"


def test_a_template_that_cannot_be_compiled_in_time_is_refused_once_and_for_all(tmp_path: Path) -> None:
    # Constants are folded while compiling, so this one never gets as far as rendering.
    with Renderer(write_model(tmp_path, "{{ 9 ** (9 ** 9) }}")) as renderer:
        with pytest.raises(TemplateError, match="cannot be compiled"):
            render_patiently(renderer, HELLO)
        began = time.monotonic()
        with pytest.raises(TemplateError, match="cannot be compiled"):
            renderer.render(HELLO)
        assert time.monotonic() - began < 0.5
        assert children() == []


@pytest.mark.parametrize(("template", "complaint"), [("{% if %}", "malformed"), (None, "no chat template")])
def test_a_template_that_is_broken_or_missing_says_so_every_time(
    tmp_path: Path, template: str | None, complaint: str
) -> None:
    with Renderer(write_model(tmp_path, template)) as renderer:
        for _ in range(2):
            with pytest.raises(TemplateError, match=complaint):
                render_patiently(renderer, HELLO)


def test_messages_that_no_frame_can_carry_are_refused(renderer: Renderer) -> None:
    for content in ("\ud800", object(), 2**70):
        with pytest.raises(TemplateError, match="cannot be written"):
            renderer.render(Conversation([{"role": "user", "content": content}]))
    assert render_patiently(renderer, HELLO)


def test_a_killed_child_costs_one_render_at_most(renderer: Renderer) -> None:
    render_patiently(renderer, HELLO)
    [child] = children()
    child.kill()
    with contextlib.suppress(TemplateError):
        renderer.render(HELLO)
    assert "hello" in render_patiently(renderer, HELLO)


def test_a_stopped_child_is_replaced(renderer: Renderer) -> None:
    render_patiently(renderer, HELLO)
    [child] = children()
    child.suspend()
    with pytest.raises(TemplateError, match="longer than"):
        renderer.render(Conversation([{"role": "user", "content": "x" * 3_000_000}]))  # more than a pipe holds
    assert "hello" in render_patiently(renderer, HELLO)
    assert not child.is_running()


def test_the_child_is_limited_and_inherits_nothing(renderer: Renderer, tmp_path: Path) -> None:
    secret = os.open(tmp_path / "tokenizer_config.json", os.O_RDONLY)
    os.set_inheritable(secret, True)
    renderer._restart()
    render_patiently(renderer, HELLO)
    os.close(secret)
    [child] = children()
    assert {int(name) for name in os.listdir(f"/proc/{child.pid}/fd")} == {0, 1, 2}
    assert child.environ().keys() <= {"LC_CTYPE"}
    assert child.rlimit(psutil.RLIMIT_AS) == (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)
    assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)


def test_close_ends_the_child_and_may_be_repeated(tmp_path: Path) -> None:
    renderer = Renderer(write_model(tmp_path, CHAT_TEMPLATE))
    renderer.close()
    renderer.close()
    assert children() == []
