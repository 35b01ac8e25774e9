from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine import Postponed, RequestRefused
from runtime.llm.grammar import compiler as compiler_module
from runtime.llm.grammar.compiler import GrammarCompiler, MakeConstraint
from runtime.message import FailureCode
from tests.fakes.text_model import write_text_model
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer
from tests.runtime.llm.grammar.walking import END_TOKEN_ID, VOCAB_SIZE, writes

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    return write_text_model(directory, build_byte_level_tokenizer(), bos_token=None, chat_template=None)


@pytest.fixture
def compiler(model_dir: Path) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(model_dir, VOCAB_SIZE, [END_TOKEN_ID])
    yield compiler
    compiler.close()


def compiled(compiler: GrammarCompiler, lark: str) -> MakeConstraint:
    while True:
        try:
            return compiler.compile_lark(lark)
        except Postponed as postponed:
            postponed.ready.result(PATIENCE_S)


def test_a_grammar_is_compiled_while_the_caller_goes_on(compiler: GrammarCompiler) -> None:
    with pytest.raises(Postponed) as postponed:
        compiler.compile_lark('start: "a"')
    postponed.value.ready.result(PATIENCE_S)
    make = compiler.compile_lark('start: "a"')
    first, second = make(), make()
    assert writes(first, "a")
    assert writes(second, "a")


def test_those_who_wait_for_the_same_grammar_wait_for_one_thing(compiler: GrammarCompiler) -> None:
    ready = []
    for _ in range(3):
        with pytest.raises(Postponed) as postponed:
            compiler.compile_lark('start: "same"')
        ready.append(postponed.value.ready)
    assert ready[0] is ready[1] is ready[2]
    ready[0].result(PATIENCE_S)


def test_a_refusal_names_the_field_and_is_remembered(compiler: GrammarCompiler) -> None:
    for _ in range(2):
        with pytest.raises(RequestRefused) as refusal:
            compiled(compiler, "start: missing")
        assert refusal.value.code is FailureCode.INVALID
        assert refusal.value.param == "response_format"
        assert refusal.value.message.startswith("response_format: ")
    assert compiler.num_remembered == 1
    with pytest.raises(RequestRefused) as refusal:
        compiler.compile_lark("start: missing", "tools")
    assert refusal.value.param == "tools"


def test_memory_stays_bounded_by_number_and_by_size(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler_module, "GRAMMARS_MAX", 10)
    for index in range(60):
        compiled(compiler, f'start: "grammar {index}"')
        compiled(compiler, 'start: "often"')
        assert compiler.num_remembered <= 10
    compiler.compile_lark('start: "often"')  # still there
    monkeypatch.setattr(compiler_module, "CHARACTERS_MAX", 5000)
    compiled(compiler, f'start: "{"x" * 3000}"')
    compiled(compiler, f'start: "{"y" * 3000}"')
    assert compiler.num_remembered == 1


def test_too_many_that_wait_are_refused_for_now(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler_module, "PENDING_MAX", 0)
    with pytest.raises(RequestRefused) as refusal:
        compiler.compile_lark('start: "a"')
    assert refusal.value.code is FailureCode.OVERLOADED
    assert refusal.value.retry_after_s


def test_a_passing_trouble_is_not_remembered(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.llm.grammar.vetting.START_TIMEOUT_S", 0.0)
    with pytest.raises(RequestRefused):
        compiled(compiler, 'start: "a"')
    monkeypatch.undo()
    assert writes(compiled(compiler, 'start: "a"')(), "a")


def test_nothing_runs_before_the_first_grammar(model_dir: Path) -> None:
    import threading

    num_threads = threading.active_count()
    GrammarCompiler(model_dir, VOCAB_SIZE, [END_TOKEN_ID]).close()
    assert threading.active_count() == num_threads
