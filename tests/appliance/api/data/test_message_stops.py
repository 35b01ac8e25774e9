"""The stop sequence is told from the bytes of the last tokens."""

import pytest

from appliance.api.data.message_stops import StopFinder
from runtime.protocol import Delta, TokenLogprob


def found(stops: list[str], *deltas: list[bytes]) -> str | None:
    finder = StopFinder(stops)
    for tokens in deltas:
        logprobs = [TokenLogprob(token_id=1, token=token, logprob=-0.5) for token in tokens]
        finder.add(Delta(request_id="id", logprobs=logprobs or None))
    return finder.found()


@pytest.mark.parametrize(
    ("stops", "deltas", "expected"),
    [
        (["b"], [[b"a", b"b"]], "b"),
        (["b"], [[b"a"], [b"xbx"]], "b"),
        (["abc"], [[b"xa"], [b"b", b"cd"]], "abc"),
        (["é"], [[b"\xc3"], [], [b"\xa9"]], "é"),
        (["b", "abc"], [[b"a"], [b"bc"]], "b"),
        (["b", "ab"], [[b"a"], [b"b"]], "ab"),
        (["b"], [[b"a"], [b"<end>"]], None),
        (["b"], [], None),
        ([], [[b"a"]], None),
    ],
)
def test_first_complete_sequence_is_found(stops: list[str], deltas: list[list[bytes]], expected: str | None) -> None:
    assert found(stops, *deltas) == expected


def test_what_stood_earlier_does_not_count() -> None:
    assert found(["ab"], [b"ab", b"c"]) is None, "had it been text, it would have ended there"
