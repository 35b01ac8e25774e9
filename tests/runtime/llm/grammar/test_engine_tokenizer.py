from pathlib import Path

import pytest

from runtime.llm.grammar.engine_tokenizer import GrammarTokenizer, brief
from runtime.llm.vocabulary import Vocabulary
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer, build_sentencepiece_tokenizer


@pytest.mark.parametrize("build", [build_byte_level_tokenizer, build_sentencepiece_tokenizer])
def test_a_token_is_the_same_text_to_grammars_and_to_clients(tmp_path: Path, build: type) -> None:
    text = build().to_str()
    (tmp_path / "tokenizer.json").write_text(text)
    vocab_size = build().get_vocab_size()
    tokenizer = GrammarTokenizer.load(tmp_path, vocab_size + 40, [1, 2])
    vocabulary = Vocabulary(text.encode())
    assert tokenizer.end_token_ids == {1, 2}
    assert tokenizer.num_mask_words == -(-(vocab_size + 40) // 32)
    for token_id in range(vocab_size):
        if not tokenizer.tokenizer.is_special_token(token_id):
            assert tokenizer.tokenizer.decode_bytes([token_id]) == vocabulary.token_bytes(token_id)


def test_errors_do_not_quote_what_was_parsed(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(build_byte_level_tokenizer().to_str())
    tokenizer = GrammarTokenizer.load(tmp_path, 340, [1])
    matcher = tokenizer.compile('start: "secret"')
    matcher.consume_token(5)
    assert matcher.is_error()
    assert "secret" not in matcher.get_error()


def test_what_the_library_quotes_is_not_told() -> None:
    text = (
        "at 2(8): failed to compile JSON schema: Unsatisfiable schema: x\n   1 | %llguidance {}\n   2 | start: secret"
    )
    assert brief(text) == "Unsatisfiable schema: x"
    assert len(brief("long " * 1000)) <= 300
