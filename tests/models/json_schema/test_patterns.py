import pytest

from models.json_schema.patterns import DEPTH_MAX, PatternError, PatternUnsupported, translate


@pytest.mark.parametrize(
    ("pattern", "translated"),
    [
        ("", ""),
        ("^a+$", "^a+$"),
        ("a|b|", "a|b|"),
        ("^a$|^b$", "^a$|^b$"),
        ("a.b", r"a[^\n\r\x{2028}\x{2029}]b"),
        (r"\d{3}-\w", r"[0-9]{3}\x{2d}[0-9A-Za-z_]"),
        (r"[\d-x]", r"[0-9\x{2d}x]"),
        (r"[a-\d]", r"[a\x{2d}0-9]"),
        ("[-a]", r"[\x{2d}a]"),
        ("[a-]", r"[a\x{2d}]"),
        ("[a-c0]", "[a-c0]"),
        ("[^a]", "[^a]"),
        ("[&&[~]", r"[\x{26}\x{26}\x{5b}\x{7e}]"),
        ("[]", r"[^\x{0}-\x{10ffff}]"),
        ("[^]", r"[\x{0}-\x{10ffff}]"),
        (r"[^\D]", "[^[^0-9]]"),
        (r"[\b]", r"[\x{8}]"),
        (r"\p{Lu}\P{L}", r"\p{Lu}\P{L}"),
        (r"\/\-\.", r"\x{2f}\x{2d}\x{2e}"),
        (r"\t\n\cA\0", r"\x{9}\x{a}\x{1}\x{0}"),
        (r"\x41\u00e9\u{1F525}\ud83d\udd25", r"A\x{e9}\x{1f525}\x{1f525}"),
        ("é炉", r"\x{e9}\x{7089}"),
        ("a*?b+?c??", "a*b+c?"),
        ("a{2}b{2,}c{2,3}?", "a{2}b{2,}c{2,3}"),
        ("a{,3}{x", r"a\x{7b}\x{2c}3\x{7d}\x{7b}x"),
        ("(a)(?:b)(?<name>c)", "(?:a)(?:b)(?:c)"),
    ],
)
def test_a_pattern_means_the_same_in_the_engine(pattern: str, translated: str) -> None:
    assert translate(pattern) == translated


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?i:a)",
        r"\bfoo",
        r"\B",
        r"(a)\1",
        r"\k<n>",
        "a^b",
        "a$b",
        "(^a|b)c",
        "a{1,1000000}",
    ],
)
def test_what_no_automaton_can_follow_is_told_apart(pattern: str) -> None:
    with pytest.raises(PatternUnsupported):
        translate(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "(",
        ")",
        "a)",
        "*",
        "a**",
        "a|+",
        "\\",
        "[z-a]",
        "a{3,2}",
        r"\x4",
        r"\u{}",
        r"\ud800",
        r"\p",
        "(?<n",
        "a{2}{3}",
        "[a\\",
        "(" * (DEPTH_MAX + 2),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        translate(pattern)


def test_a_very_long_pattern_is_read_in_good_time() -> None:
    assert len(translate("a" * 100_000)) == 100_000
    assert translate("{" * 20_000)
