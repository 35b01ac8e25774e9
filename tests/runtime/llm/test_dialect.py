from pathlib import Path

from models.tool_parsers.mistral import MistralParser
from runtime.llm.dialect import Dialect
from runtime.llm.vocabulary import Vocabulary
from tests.fakes.text_model import write_text_model
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer


def vocabulary(*special_tokens: str) -> Vocabulary:
    tokenizer = build_byte_level_tokenizer()
    tokenizer.add_special_tokens(list(special_tokens))
    return Vocabulary(tokenizer.to_str().encode())


def test_markers_that_are_special_tokens_are_known_by_their_ids() -> None:
    words = vocabulary("[TOOL_CALLS]", "[THINK]")
    dialect = Dialect("", "mistral", "mistral", words)
    calls, think = words.token_id("[TOOL_CALLS]"), words.token_id("[THINK]")
    assert dialect.token_ids(has_tools=True) == {calls, think}
    assert dialect.token_ids(has_tools=False) == {think}
    assert dialect.terminal("[TOOL_CALLS]") == f"<[{calls}]>"
    assert dialect.terminal("[ARGS]") == '"[ARGS]"'


def test_markup_that_is_an_added_token_is_one_in_a_grammar_too() -> None:
    """Hermes models have it so: not special, for clients read it, and yet no text to the grammar engine."""
    tokenizer = build_byte_level_tokenizer()
    tokenizer.add_tokens(["<tool_call>"])
    words = Vocabulary(tokenizer.to_str().encode())
    dialect = Dialect("", "hermes", "none", words)
    assert dialect.token_ids(has_tools=True) == frozenset()
    assert dialect.terminal("<tool_call>") == f"<[{words.token_id('<tool_call>')}]>"
    assert dialect.terminal("</tool_call>") == '"</tool_call>"'


def test_the_dialect_is_that_of_the_folder(tmp_path: Path) -> None:
    template = "{{ '[TOOL_CALLS]' }}{% if enable_thinking %}<think>{% endif %}"
    write_text_model(tmp_path, build_byte_level_tokenizer(), bos_token=None, chat_template=template)
    dialect = Dialect.load(tmp_path, vocabulary())
    assert dialect.tool_parser is MistralParser
    assert dialect.thoughts is not None
    assert (dialect.can_switch_thinking, dialect.knows_effort) == (True, False)
