from collections.abc import Iterator
from pathlib import Path

import pytest

from models.framed_child import ChildLost
from runtime.llm.grammar.vetting import GrammarRefused, Vetter, complaint_about
from tests.fakes.text_model import write_text_model
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer
from tests.runtime.llm.grammar.walking import END_TOKEN_ID, TOKENIZER, VOCAB_SIZE


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    return write_text_model(directory, build_byte_level_tokenizer(), bos_token=None, chat_template=None)


@pytest.fixture(scope="module")
def vetter(model_dir: Path) -> Iterator[Vetter]:
    vetter = Vetter(model_dir, VOCAB_SIZE, [END_TOKEN_ID])
    yield vetter
    vetter.close()


def refusal(vetter: Vetter, lark: str) -> GrammarRefused:
    with pytest.raises(GrammarRefused) as refused:
        vetter.check(lark)
    return refused.value


def test_a_good_grammar_passes_and_a_bad_one_is_explained(vetter: Vetter) -> None:
    vetter.check('start: "a"')
    said = refusal(vetter, 'start: %json {"type": "integer", "minimum": 5, "maximum": 4}')
    assert said.is_lasting
    assert "minimum (5) is greater than maximum (4)" in str(said)
    vetter.check('start: "b"')


@pytest.mark.parametrize(
    "lark",
    [
        "start: missing",
        "start: /[/",
        'start: "a" "b',
        'start: %json {"type": "no-such"}',
        'start: %json {"pattern": "(?=a)"}',
        'start: %json {"$ref": "file:///etc/passwd"}',
        'start: %json {"$ref": "https://example.org/"}',
        "start: " + "(" * 100_000 + '"a"' + ")" * 100_000,
        'start: %json {"type": "number", "multipleOf": 2147483647}',
        'start: %json {"allOf": [' + ",".join('{"anyOf":[{"minimum":1},{"maximum":0}]}' for _ in range(20)) + "]}",
        "start: %json " + '{"items":' * 5000 + "{}" + "}" * 5000,
        "not a grammar at all",
        "",
    ],
)
def test_no_grammar_ends_more_than_itself(vetter: Vetter, lark: str) -> None:
    assert str(refusal(vetter, '%llguidance {"no_forcing": true}\n' + lark))
    vetter.check('start: "a"')


def test_a_sentence_that_can_never_begin_is_refused() -> None:
    assert complaint_about('start: %json {"$ref": "#"}', TOKENIZER)
    assert complaint_about('start: "a"', TOKENIZER) == ""


def test_a_child_that_was_lost_is_started_again(vetter: Vetter, monkeypatch: pytest.MonkeyPatch) -> None:
    vetter.check('start: "a"')
    monkeypatch.setattr("runtime.llm.grammar.vetting.VET_TIMEOUT_S", 0.0)
    lost = refusal(vetter, 'start: "slow"')
    assert not lost.is_lasting
    assert isinstance(lost.__cause__, ChildLost)
    monkeypatch.undo()
    vetter.check('start: "a"')


def test_a_tokenizer_that_cannot_be_used_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    vetter = Vetter(tmp_path, VOCAB_SIZE, [END_TOKEN_ID])
    assert "tokenizer" in str(refusal(vetter, 'start: "a"'))
    vetter.close()
