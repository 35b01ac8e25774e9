"""What `hearth doctor` says of one thing that it looked at."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but not as well or as safely as it could
    PROBLEM = "problem"  # something does not work, or will not


class Finding(msgspec.Struct, frozen=True):
    check: str
    verdict: Verdict
    message: str
    """What was found."""
    advice: str = ""
    """What to do about it."""


def ok(check: str, message: str) -> Finding:
    return Finding(check, Verdict.OK, message)


def warning(check: str, message: str, advice: str) -> Finding:
    return Finding(check, Verdict.WARNING, message, advice)


def problem(check: str, message: str, advice: str) -> Finding:
    return Finding(check, Verdict.PROBLEM, message, advice)
