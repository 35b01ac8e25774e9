"""Every construct of GBNF, in the engine: what it must accept, and what it must not."""

import random

import pytest

from runtime.engine import RequestRefused
from runtime.llm.grammar.answer_grammar import write_answer_grammar
from runtime.llm.grammar.matcher import GrammarMatcher
from runtime.submission import GrammarConstraint, JsonConstraint
from tests.runtime.llm.grammar.walking import begin, walk, writes

ARITHMETIC = """
root   ::= term (("+" | "-") term)*
term   ::= factor (("*" | "/") factor)*
factor ::= number | name | "(" root ")"
number ::= [0-9]+ ("." [0-9]+)?
name   ::= [a-z] [a-z0-9]{0,3}
"""
CHESS = """
# a game: the first move, then at least one more
root ::= (
    # numbered like this
    "1. " move " " move "\\n"

    ([1-9] [0-9]? ". " move " " move "\\n")+
)
move ::= (pawn | piece | castle) [+#]?   # check, or mate
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBQR])?
piece ::= [NBKQR] [a-h]? "x"? [a-h] [1-8]
castle ::= "O-O" "-O"?
"""

CONSTRUCTS: list[tuple[str, list[str], list[str]]] = [
    ('root ::= "yes" | "no"', ["yes", "no"], ["y", "yesno", "maybe", ""]),
    ("root ::= [a-c]", ["a", "c"], ["d", "", "ab"]),
    ("root ::= [abx-z]", ["a", "y"], ["c", "w"]),
    ("root ::= [-a]", ["-", "a"], ["b"]),
    ("root ::= [a-]", ["-", "a"], ["b"]),
    ("root ::= [^a-c]", ["d", "é", "\n", "/"], ["a", "c"]),
    ('root ::= [^\\n]+ "\\n"', ["- x /é\n"], ["\n", "x", "x\ny"]),
    ("root ::= ...", ["abc", "é\n炉", "///"], ["ab", "abcd"]),
    ('root ::= "a"*', ["", "a", "aaa"], ["b", "ab"]),
    ('root ::= "a"+', ["a", "aaa"], [""]),
    ('root ::= "a"? "b"', ["b", "ab"], ["aab", "a"]),
    ('root ::= "ab"{2}', ["abab"], ["ab", "ababab"]),
    ('root ::= "a"{2,}', ["aa", "aaaa"], ["a"]),
    ('root ::= "a"{1,3}', ["a", "aaa"], ["", "aaaa"]),
    ('root ::= "a"{ 0 , 1 } "b"', ["b", "ab"], ["aab"]),
    ('root ::= ("a" | "b" "c")+', ["abca", "bc"], ["b", "acb", ""]),
    ('root ::= "a" ("b" | ) "c"', ["abc", "ac"], ["ab"]),
    ("root ::=", [""], ["a"]),
    ('root ::= ""', [""], ["a"]),
    ('root ::= "\\x41\\u00e9\\U0001F525"', ["Aé🔥"], ["A", "AE"]),
    ("root ::= [\\u3041-\\u309f]+", ["ひ"], ["x"]),
    ("root ::= [ぁ-ゟ一-鿿]+", ["ひ炉"], ["x", "ア"]),
    ('root ::= "\\"\\\\\\n\\r\\t"', ['"\\\n\r\t'], ["\\"]),
    ("root ::= [\\]\\[\\\\\\^\\-]+", ["][\\^-"], ["a"]),
    ("root ::= [/\"'$.*]+", ["/\"'$.*"], ["a"]),
    ('root ::= "//" [^\\n]* "\\n" | "/*" [^*]* "*/"', ["// x\n", "/* x */"], ["/* x", "// x"]),
    ('root ::= one-two\none-two ::= "x" Three\nThree ::= "y"', ["xy"], ["x"]),
    ('root ::= "a" |\n  "b" |\n  "c"', ["a", "b", "c"], ["d"]),
    ('root ::=\n  "a"\n  | "b"\n\nother ::= "c"', ["a", "b"], ["c"]),
    ('# first\nroot ::= # and here\n "a" # in the end\n', ["a"], ["b"]),
    ('root ::= "a"\r\nother ::= "b"\r\n', ["a"], ["b"]),
    ('root ::= "[" (root ("," root)*)? "]"', ["[]", "[[],[[]]]"], ["[", "[,]", "[]]"]),
    ('root ::= root "+" "x" | "x"', ["x", "x+x+x"], ["+", "x+"]),
    ('root ::= maybe root "b" | "b"\nmaybe ::= "a"?', ["b", "bb", "abb"], ["a", "ba"]),
    # where a lexer that takes the longest match goes wrong
    ('root ::= "ab" "y" | [a-z] "bx"', ["aby", "abx"], ["abz"]),
    ('root ::= ("ab" "y" | [a-z] "bx") root?', ["aby", "abx", "abxaby"], ["abz"]),
    ('root ::= ws ws "x" root?\nws ::= " "+', ["  x", "   x  x"], [" x"]),
    ('root ::= "int" " "+ name ";" | name " "* "=" root\nname ::= [a-z]+', ["int =int a;", "int i;"], ["int", "int ;"]),
    (ARITHMETIC, ["1", "(a+2.5)*x1", "((1))/y"], ["(", "1+", "()", "abcde", "1."]),
    (CHESS, ["1. e4 e5\n2. Nf3 O-O-O#\n"], ["1. e4 e5\n", "1. e9 e5\n2. a1 a1\n"]),
]


def matcher(gbnf: str) -> GrammarMatcher:
    return begin(write_answer_grammar(GrammarConstraint(gbnf=gbnf)))


@pytest.mark.parametrize(("gbnf", "sentences", "others"), CONSTRUCTS)
def test_a_construct_of_gbnf_allows_its_sentences_and_no_others(
    gbnf: str, sentences: list[str], others: list[str]
) -> None:
    for text in sentences:
        assert writes(matcher(gbnf), text), text
    for text in others:
        assert not writes(matcher(gbnf), text), text


@pytest.mark.parametrize("gbnf", [ARITHMETIC, CHESS])
def test_what_a_random_model_writes_is_a_sentence(gbnf: str) -> None:
    rng = random.Random(gbnf)
    texts = [walk(matcher(gbnf), rng) for _ in range(5)]
    assert any(text is not None for text in texts)
    for text in texts:
        assert text is None or writes(matcher(gbnf), text)


def test_a_bad_grammar_is_refused_by_name_and_line() -> None:
    with pytest.raises(RequestRefused) as refusal:
        write_answer_grammar(GrammarConstraint(gbnf='root ::= "a"\n  item'))
    assert refusal.value.param == "response_format.grammar"
    assert "no rule named item (line 2, column 3)" in refusal.value.message


def test_json_is_what_the_schema_says() -> None:
    assert write_answer_grammar(JsonConstraint(schema='{"type":"null"}')) == 'start: %json {"type":"null"}\n'
