import pytest

from models.gbnf import CHARACTERS_MAX, DEPTH_MAX, GbnfError, gbnf_to_lark


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no rule named root"),
        ('start ::= "a"', "has no rule named root"),
        ('root ::= item "b"', "there is no rule named item (line 1, column 10)"),
        ('root ::= "a"\nroot ::= "b"', "the rule root is there twice (line 2, column 1)"),
        ("root ::= root", "the rule root never comes to an end"),
        ('root ::= "x" | again\nagain ::= "a" again', "the rule again never comes to an end"),
        ('root = "a"', "expected a rule: name ::= … (line 1, column 1)"),
        ('root ::= "a', "this is never closed (line 1, column 10)"),
        ("root ::= [a-", "this is never closed (line 1, column 10)"),
        ("root ::= []", "no character to choose from (line 1, column 10)"),
        ("root ::= [z-a]", "a range out of order (line 1, column 14)"),
        ('root ::= ("a"', "a ( without its ) (line 1, column 10)"),
        ('root ::= "a")', "a ) without its ( (line 1, column 13)"),
        ('root ::= "\\q"', "unknown escape \\q (line 1, column 11)"),
        ('root ::= "\\x4"', "expected 2 hexadecimal digits (line 1, column 13)"),
        ('root ::= "\\ud800"', "no such character (line 1, column 13)"),
        ('root ::= "a"{3,2}', "repetitions out of order (line 1, column 18)"),
        ('root ::= "a"{99999}', "more than 10000 repetitions (line 1, column 14)"),
        ('root ::= "a"{x}', "expected a number (line 1, column 14)"),
        ("root ::= *", "unexpected '*' (line 1, column 10)"),
        ('root ::= "\ud800"', "holds half of a surrogate pair"),
        ("root ::= " + "(" * 1_000_000, f"is longer than {CHARACTERS_MAX} characters"),
        ("root ::= " + "(" * 10_000, f"parentheses nested deeper than {DEPTH_MAX} (line 1, column {DEPTH_MAX + 11})"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(text: str, said: str) -> None:
    with pytest.raises(GbnfError) as refusal:
        gbnf_to_lark(text)
    assert str(refusal.value) == said


def test_a_grammar_without_recursion_is_one_regular_expression() -> None:
    assert gbnf_to_lark('root ::= word+\nword ::= [a-z] "/"') == "start: /(?:[a-z]\\x{2f})+/\n"


def test_a_grammar_with_recursion_has_tokens_of_one_character() -> None:
    lark = gbnf_to_lark('root ::= "(" root ")" | "ab"')
    assert lark == "start: r0\nr0: (/\\x{28}/ r0 /\\x{29}/ | /a/ /b/)\n"


def test_rules_that_double_at_each_step_are_not_written_out() -> None:
    doubling = "\n".join(f"r{index} ::= r{index + 1} r{index + 1}" for index in range(40))
    lark = gbnf_to_lark(f'root ::= r0\n{doubling}\nr40 ::= "x"')
    assert len(lark) < 2000


def test_a_long_chain_of_rules_is_read_in_good_time() -> None:
    chain = "\n".join(f'r{index} ::= r{index + 1} | "y"' for index in range(300))
    assert gbnf_to_lark(f'root ::= r0\n{chain}\nr300 ::= "x"')
    endless = "\n".join(f"r{index} ::= r{index + 1}" for index in range(1500))
    with pytest.raises(GbnfError):
        gbnf_to_lark(f"root ::= r0\n{endless}\nr1500 ::= root")
