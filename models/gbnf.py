"""Grammars in GBNF, the BNF of llama.cpp that clients write, brought into the form that the grammar engine takes.

The engine's lexer takes the longest match, GBNF knows no lexer. So a grammar without recursion becomes one regular
expression, and any other a grammar whose tokens are single characters: both mean exactly what the client wrote. Every
character of the result is an escape, a letter or a digit.
"""

from collections.abc import Iterator
from typing import NamedTuple, NoReturn

CHARACTERS_MAX = 64 * 1024
DEPTH_MAX = 64
RULES_MAX = 2000
REPETITIONS_MAX = 10_000
REGEX_CHARACTERS_MAX = 200_000
"""A longer one stays a grammar."""
_REGEX_DEPTH_MAX = 200
_VISITS_MAX = 1_000_000

_ESCAPES = {"n": 10, "r": 13, "t": 9, "0": 0}
_HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}
_UNICODE_MAX = 0x10FFFF


class GbnfError(ValueError):
    """The message says what is wrong, and in which line and column."""


class Characters(NamedTuple):
    """One character out of these ranges, or (negated) any other."""

    ranges: tuple[tuple[int, int], ...]
    is_negated: bool = False


class RuleName(NamedTuple):
    name: str
    position: int


class Sequence(NamedTuple):
    items: tuple["Node", ...]


class Choice(NamedTuple):
    items: tuple["Node", ...]


class Repetition(NamedTuple):
    item: "Node"
    low: int
    high: int | None


Node = Characters | RuleName | Sequence | Choice | Repetition


def gbnf_to_lark(text: str) -> str:
    """Raises GbnfError."""
    return Grammar(text).lark()


class Grammar:
    """Parsed and checked: `root` is there, every rule that is used is there too, and each can come to an end."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > CHARACTERS_MAX:
            raise GbnfError(f"is longer than {CHARACTERS_MAX} characters")
        if any("\ud800" <= character < "\ue000" for character in text):
            raise GbnfError("holds half of a surrogate pair")
        self._rules = _Parser(text).rules()
        if "root" not in self._rules:
            raise GbnfError("has no rule named root")
        self._check_names()
        self._check_ends()

    def lark(self) -> str:
        length = self._regex_length(self._rules["root"], 0)
        if length is not None and length <= REGEX_CHARACTERS_MAX:
            return f"start: {_anchored(self._regex(self._rules['root']))}\n"
        names = {name: f"r{index}" for index, name in enumerate(self._rules)}
        rules = [f"{names[name]}: {_lark(node, names)}\n" for name, node in self._rules.items()]
        return f"start: {names['root']}\n" + "".join(rules)

    def _check_names(self) -> None:
        for node in self._rules.values():
            for used in _names_in(node):
                if used.name not in self._rules:
                    _fail(self._text, used.position, f"there is no rule named {used.name}")

    def _check_ends(self) -> None:
        """A rule of which each alternative needs itself again would go on for ever."""
        ending: set[str] = set()
        num_visits = 0
        while more := {name for name in self._rules.keys() - ending if _can_end(self._rules[name], ending)}:
            ending |= more
            num_visits += len(self._text)
            if num_visits > _VISITS_MAX:
                raise GbnfError("its rules depend on each other in too many steps")
        endless = [name for name in self._rules if name not in ending]
        if endless:
            raise GbnfError(f"the rule {endless[0]} never comes to an end")

    def _regex_length(self, node: Node, depth: int) -> int | None:
        """Of the regular expression for it; None where there is none, or none that is worth it."""
        if depth > _REGEX_DEPTH_MAX:
            return None
        match node:
            case Characters():
                return len(_character_class(node))
            case RuleName(name):
                return self._regex_length(self._rules[name], depth + 1)
            case Repetition(item):
                length = self._regex_length(item, depth + 1)
                return None if length is None else length + 20
        total = 10
        for item in node.items:
            length = self._regex_length(item, depth + 1)
            if length is None or total > REGEX_CHARACTERS_MAX:
                return None
            total += length + 1
        return total

    def _regex(self, node: Node) -> str:
        match node:
            case Characters():
                return _character_class(node)
            case RuleName(name):
                return self._regex(self._rules[name])
            case Repetition(item):
                return f"(?:{self._regex(item)}){_bounds(node)}"
            case Sequence(items):
                return "".join(map(self._regex, items))
            case Choice(items):
                return f"(?:{'|'.join(map(self._regex, items))})"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def rules(self) -> dict[str, Node]:
        rules: dict[str, Node] = {}
        self._skip_space()
        while self._position < len(self._text):
            start = self._position
            name = self._name()
            self._skip_space()
            if not name or not self._skip("::="):
                self._fail("expected a rule: name ::= …", start)
            if name in rules:
                self._fail(f"the rule {name} is there twice", start)
            if len(rules) == RULES_MAX:
                self._fail(f"more than {RULES_MAX} rules", start)
            rules[name] = self._alternatives(0)
        return rules

    def _alternatives(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            self._fail(f"parentheses nested deeper than {DEPTH_MAX}")
        items = [self._sequence(depth)]
        while self._skip("|"):
            items.append(self._sequence(depth))
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def _sequence(self, depth: int) -> Node:
        items: list[Node] = []
        self._skip_space()
        while self._position < len(self._text) and self._peek() not in "|)" and not self._is_rule_next():
            item = self._item(depth)
            self._skip_space()
            while (bounds := self._bounds()) is not None:
                item = Repetition(item, *bounds)
                self._skip_space()
            items.append(item)
        if depth == 0 and self._peek() == ")":
            self._fail("a ) without its (")
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _item(self, depth: int) -> Node:
        start = self._position
        if self._skip('"'):
            return self._literal(start)
        if self._skip("["):
            return self._characters(start)
        if self._skip("."):
            return Characters(((0, _UNICODE_MAX),))
        if self._skip("("):
            inner = self._alternatives(depth + 1)
            if not self._skip(")"):
                self._fail("a ( without its )", start)
            return inner
        name = self._name()
        if not name:
            self._fail(f"unexpected {self._peek()!r}")
        return RuleName(name, start)

    def _literal(self, start: int) -> Node:
        items: list[Node] = []
        while not self._skip('"'):
            value = self._character(start)
            items.append(Characters(((value, value),)))
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _characters(self, start: int) -> Node:
        is_negated = self._skip("^")
        ranges: list[tuple[int, int]] = []
        while not self._skip("]"):
            low = high = self._character(start)
            if self._peek() == "-" and self._text[self._position + 1 : self._position + 2] != "]":
                self._position += 1
                high = self._character(start)
                if high < low:
                    self._fail("a range out of order")
            ranges.append((low, high))
        if not ranges and is_negated:
            return Characters(((0, _UNICODE_MAX),))
        if not ranges:
            self._fail("no character to choose from", start)
        return Characters(tuple(ranges), is_negated)

    def _character(self, start: int) -> int:
        if self._position == len(self._text):
            self._fail("this is never closed", start)
        character = self._take()
        if character != "\\":
            return ord(character)
        letter = self._take()
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter in _HEX_LENGTHS:
            return self._hex(_HEX_LENGTHS[letter])
        if not letter or letter.isalnum():
            self._fail(f"unknown escape \\{letter}", self._position - len(letter) - 1)
        return ord(letter)

    def _hex(self, length: int) -> int:
        digits = self._text[self._position : self._position + length]
        if len(digits) < length or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            self._fail(f"expected {length} hexadecimal digits")
        self._position += length
        value = int(digits, 16)
        if value > _UNICODE_MAX or 0xD800 <= value < 0xE000:
            self._fail("no such character", self._position - length)
        return value

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._skip(sign):
                return bounds
        if not self._skip("{"):
            return None
        self._skip_space()
        low = self._number()
        self._skip_space()
        high: int | None = low
        if self._skip(","):
            self._skip_space()
            high = self._number() if self._peek().isdigit() else None
            self._skip_space()
        if not self._skip("}"):
            self._fail("expected }")
        if high is not None and high < low:
            self._fail("repetitions out of order")
        return low, high

    def _number(self) -> int:
        start = self._position
        while self._peek().isascii() and self._peek().isdigit():
            self._position += 1
        digits = self._text[start : self._position]
        if not digits:
            self._fail("expected a number")
        if len(digits) > 6 or int(digits) > REPETITIONS_MAX:
            self._fail(f"more than {REPETITIONS_MAX} repetitions", start)
        return int(digits)

    def _name(self) -> str:
        start = self._position
        while self._peek().isascii() and (self._peek().isalnum() or self._peek() in ("-", "_")):
            self._position += 1
        return self._text[start : self._position]

    def _is_rule_next(self) -> bool:
        """A rule goes on over lines until the next one begins."""
        start = self._position
        is_rule = bool(self._name())
        self._skip_space()
        is_rule = is_rule and self._text.startswith("::=", self._position)
        self._position = start
        return is_rule

    def _skip_space(self) -> None:
        while (character := self._peek()) and character in " \t\r\n#":
            if character == "#":
                end = self._text.find("\n", self._position)
                self._position = len(self._text) if end < 0 else end
            else:
                self._position += 1

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _take(self) -> str:
        character = self._peek()
        self._position += len(character)
        return character

    def _skip(self, text: str) -> bool:
        is_there = self._text.startswith(text, self._position)
        self._position += len(text) * is_there
        return is_there

    def _fail(self, message: str, position: int | None = None) -> NoReturn:
        _fail(self._text, self._position if position is None else position, message)


def _fail(text: str, position: int, message: str) -> NoReturn:
    before = text[:position]
    raise GbnfError(f"{message} (line {before.count(chr(10)) + 1}, column {position - before.rfind(chr(10))})")


def _names_in(node: Node) -> Iterator[RuleName]:
    match node:
        case RuleName():
            yield node
        case Repetition(item):
            yield from _names_in(item)
        case Sequence(items) | Choice(items):
            for item in items:
                yield from _names_in(item)


def _can_end(node: Node, ending: set[str]) -> bool:
    match node:
        case RuleName(name):
            return name in ending
        case Repetition(item, low):
            return low == 0 or _can_end(item, ending)
        case Sequence(items):
            return all(_can_end(item, ending) for item in items)
        case Choice(items):
            return any(_can_end(item, ending) for item in items)
    return True


# ---- writing


def _lark(node: Node, names: dict[str, str]) -> str:
    match node:
        case Characters():
            return f"/{_character_class(node)}/"
        case RuleName(name):
            return names[name]
        case Repetition(item):
            return f"({_lark(item, names)}){_bounds(node)}"
        case Sequence(items):
            return " ".join(_lark(item, names) for item in items) or '""'
        case Choice(items):
            return f"({' | '.join(_lark(item, names) for item in items)})"


def _anchored(regex: str) -> str:
    """An empty sentence is no token."""
    return f"/{regex}/" if regex else '""'


def _bounds(node: Repetition) -> str:
    if (node.low, node.high) == (0, 1):
        return "?"
    if node.high is None and node.low < 2:
        return "+" if node.low else "*"
    return f"{{{node.low},{'' if node.high is None else node.high}}}"


def _character_class(node: Characters) -> str:
    if not node.is_negated and len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1]:
        return _character_text(node.ranges[0][0])
    ranges = "".join(f"{_character_text(low)}-{_character_text(high)}" for low, high in node.ranges)
    return f"[{'^' if node.is_negated else ''}{ranges}]"


def _character_text(value: int) -> str:
    character = chr(value)
    return character if character.isascii() and character.isalnum() else f"\\x{{{value:x}}}"
