"""ECMAScript regular expressions, as schemas hold them, in the dialect of the grammar engine.

Every character of the result is written so that it means the same in both: classes are spelled out, letters and
digits stand for themselves, everything else is an escape. Nothing here ever matches a text, and no pattern of a
stranger reaches Python's `re`.
"""

from typing import NoReturn

DEPTH_MAX = 64
REPETITIONS_MAX = 100_000

_SPACE = r"\t\n\x{b}\x{c}\r\x{20}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": _SPACE}
_NOT_NEWLINE = r"[^\n\r\x{2028}\x{2029}]"
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_HEX_LENGTHS = {"x": 2, "u": 4}
_PROPERTY_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=")


class PatternError(ValueError):
    """It is no regular expression."""


class PatternUnsupported(ValueError):
    """It is one, and no automaton can follow it; the message names the construct."""


def translate(pattern: str) -> str:
    """Raises PatternError or PatternUnsupported."""
    translator = _Translator(pattern)
    translated = translator.alternatives(0)
    if not translator.is_at_end:
        translator.fail("an unmatched )")
    return translated


class _Translator:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._position = 0

    @property
    def is_at_end(self) -> bool:
        return self._position == len(self._pattern)

    def fail(self, what: str) -> NoReturn:
        raise PatternError(f"{what} at character {self._position}")

    def alternatives(self, depth: int) -> str:
        if depth > DEPTH_MAX:
            self.fail("too many parentheses")
        pieces: list[str] = []
        while not self.is_at_end and self._peek() != ")":
            if self._skip("|"):
                pieces.append("|")
            elif self._peek() in ("^", "$"):
                is_at_edge = pieces[-1:] in ([], ["|"]) if self._peek() == "^" else self._is_alternative_over()
                if depth or not is_at_edge:
                    raise PatternUnsupported("^ or $ in the middle")
                pieces.append(self._take())
            else:
                pieces.append(self._term(depth))
        return "".join(pieces)

    def _is_alternative_over(self) -> bool:
        return self._pattern[self._position + 1 : self._position + 2] in ("", "|")

    def _term(self, depth: int) -> str:
        start = self._position
        match self._take():
            case "(":
                atom = self._group(depth)
            case ".":
                atom = _NOT_NEWLINE
            case "[":
                atom = self._bracketed()
            case "\\":
                atom = self._escape()
            case "*" | "+" | "?":
                self._position = start
                self.fail("nothing to repeat")
            case character:
                atom = _literal(ord(character))
        return atom + self._repetition()

    def _group(self, depth: int) -> str:
        if self._skip("?"):
            if self._skip("<") and self._peek() not in ("=", "!"):
                self._name()
            elif not self._skip(":"):
                raise PatternUnsupported("look-around or flags")
        inner = self.alternatives(depth + 1)
        if not self._skip(")"):
            self.fail("a ( without its )")
        return f"(?:{inner})"

    def _name(self) -> None:
        end = self._pattern.find(">", self._position)
        if end < 0:
            self.fail("a group's name without its >")
        self._position = end + 1

    def _repetition(self) -> str:
        repetition = ""
        if self._peek() in ("*", "+", "?"):
            repetition = self._take()
        elif self._peek() == "{":
            repetition = self._bounds()
        if repetition:
            self._skip("?")  # a lazy one matches the same texts
            if self._peek() in ("*", "+", "?") or (self._peek() == "{" and self._bounds()):
                self.fail("nothing to repeat")
        return repetition

    def _bounds(self) -> str:
        """`{2}`, `{2,}` or `{2,5}`; a brace that is none of these is a literal and stays where it is."""
        end = self._pattern.find("}", self._position)
        low, comma, high = self._pattern[self._position + 1 : max(end, 0)].partition(",")
        if end < 0 or not _is_number(low) or (high and not _is_number(high)):
            return ""
        if len(low) > 6 or len(high) > 6 or max(int(low), int(high or 0)) > REPETITIONS_MAX:
            raise PatternUnsupported(f"more than {REPETITIONS_MAX} repetitions")
        if high and int(high) < int(low):
            self.fail("repetitions out of order")
        self._position = end + 1
        return "{" + low + comma + high + "}"

    def _bracketed(self) -> str:
        is_negated = self._skip("^")
        items = ""
        while not self._skip("]"):
            first, is_class = self._class_item()
            if is_class or self._peek() != "-" or self._pattern[self._position + 1 : self._position + 2] in ("]", ""):
                items += first
                continue
            self._take()
            last, is_class = self._class_item()
            if is_class:
                items += first + _literal(ord("-")) + last
                continue
            if _code_point(last) < _code_point(first):
                self.fail("a range out of order")
            items += f"{first}-{last}"
        if items:
            return f"[^{items}]" if is_negated else f"[{items}]"
        return r"[\x{0}-\x{10ffff}]" if is_negated else r"[^\x{0}-\x{10ffff}]"

    def _class_item(self) -> tuple[str, bool]:
        """One character, or (True) a class."""
        if self.is_at_end:
            self.fail("a [ without its ]")
        character = self._take()
        if character != "\\":
            return _literal(ord(character)), False
        if self._peek() in ("d", "w", "s"):
            return _CLASSES[self._take()], True
        if self._peek() in ("D", "W", "S"):
            return f"[^{_CLASSES[self._take().lower()]}]", True
        if self._peek() in ("p", "P"):
            return self._property(), True
        if self._skip("b"):
            return _literal(8), False
        return self._character_escape(), False

    def _escape(self) -> str:
        letter = self._peek()
        if letter in ("d", "w", "s"):
            return f"[{_CLASSES[self._take()]}]"
        if letter in ("D", "W", "S"):
            return f"[^{_CLASSES[self._take().lower()]}]"
        if letter in ("p", "P"):
            return self._property()
        if letter in ("b", "B"):
            raise PatternUnsupported("word boundaries")
        if letter == "k" or ("1" <= letter <= "9"):
            raise PatternUnsupported("references to groups")
        return self._character_escape()

    def _property(self) -> str:
        letter = self._take()
        end = self._pattern.find("}", self._position)
        name = self._pattern[self._position + 1 : max(end, 0)]
        if self._peek() != "{" or not name or not _PROPERTY_CHARACTERS.issuperset(name):
            self.fail("a property without its name")
        self._position = end + 1
        return f"\\{letter}{{{name}}}"

    def _character_escape(self) -> str:
        if self.is_at_end:
            self.fail("a \\ with nothing behind it")
        letter = self._take()
        if letter in _CONTROLS:
            return _literal(_CONTROLS[letter])
        if letter == "c" and self._peek().isascii() and self._peek().isalpha():
            return _literal(ord(self._take()) % 32)
        if letter in _HEX_LENGTHS:
            return _literal(self._character(letter))
        return _literal(ord(letter))

    def _character(self, letter: str) -> int:
        value = self._hex(letter)
        if 0xD800 <= value < 0xDC00 and self._skip("\\u"):
            value = 0x10000 + ((value - 0xD800) << 10) + (self._hex("u") - 0xDC00)
        if value > 0x10FFFF or 0xD800 <= value < 0xE000:
            self.fail("an escape that is no character")
        return value

    def _hex(self, letter: str) -> int:
        if letter == "u" and self._skip("{"):
            end = self._pattern.find("}", self._position)
            digits = self._pattern[self._position : max(end, 0)]
            self._position = end + 1
        else:
            digits = self._pattern[self._position : self._position + _HEX_LENGTHS[letter]]
            self._position += len(digits)
            if len(digits) < _HEX_LENGTHS[letter]:
                self.fail("an incomplete escape")
        if not digits or len(digits) > 6 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            self.fail("an incomplete escape")
        return int(digits, 16)

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _take(self) -> str:
        self._position += 1
        return self._pattern[self._position - 1]

    def _skip(self, text: str) -> bool:
        is_there = self._pattern.startswith(text, self._position)
        self._position += len(text) * is_there
        return is_there


def _literal(code_point: int) -> str:
    character = chr(code_point)
    if character.isascii() and character.isalnum():
        return character
    return f"\\x{{{code_point:x}}}"


def _code_point(literal: str) -> int:
    return int(literal[3:-1], 16) if len(literal) > 1 else ord(literal)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
