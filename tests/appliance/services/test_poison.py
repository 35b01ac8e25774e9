import msgspec

from appliance.config import FleetSettings
from appliance.services.poison import DIGESTS_MAX, Poison, digest_of
from runtime.protocol import Submit
from runtime.submission import TextPrompt

SETTINGS = FleetSettings(poison_crashes=2, crash_window_s=600.0)
SUBMIT = Submit(request_id="a", prompt=TextPrompt(text="hello"), sent_at=1.0)


def test_a_request_in_flight_at_two_crashes_is_refused_for_a_while() -> None:
    poison = Poison(SETTINGS)
    poison.note_crash(b"x", pid=1, now=0.0)
    assert not poison.is_refused(b"x", 1.0)
    poison.note_crash(b"x", pid=2, now=100.0)
    assert poison.is_refused(b"x", 101.0)
    assert not poison.is_refused(b"y", 101.0)
    assert not poison.is_refused(b"x", 600.0), "the first crash is long ago"


def test_the_same_content_many_times_in_flight_at_one_crash_has_seen_one() -> None:
    poison = Poison(SETTINGS)
    for _ in range(50):
        poison.note_crash(b"x", pid=1, now=0.0)
    assert poison.num_crashes(b"x", 0.0) == 1


def test_what_was_answered_is_above_suspicion() -> None:
    poison = Poison(SETTINGS)
    poison.note_crash(b"x", pid=1, now=0.0)
    poison.note_answer(b"x")
    assert poison.is_empty
    poison.note_crash(b"x", pid=2, now=1.0)
    assert not poison.is_refused(b"x", 1.0)


def test_no_more_is_remembered_than_the_latest() -> None:
    poison = Poison(SETTINGS)
    for number in range(DIGESTS_MAX + 10):
        poison.note_crash(b"first", pid=number, now=float(number) / 1000)
        poison.note_crash(str(number).encode(), pid=number, now=0.0)
    suspects = [number for number in range(DIGESTS_MAX + 10) if poison.num_crashes(str(number).encode(), 1.0)]
    assert suspects == list(range(11, DIGESTS_MAX + 10))
    assert poison.is_refused(b"first", 1.0), "suspected again and again, it stays"


def test_a_digest_is_of_the_content_and_of_whom_it_is_asked() -> None:
    again = msgspec.structs.replace(SUBMIT, request_id="b", sent_at=2.0)
    assert digest_of("d", again) == digest_of("d", SUBMIT)
    assert digest_of("e", SUBMIT) != digest_of("d", SUBMIT)
    assert digest_of("d", msgspec.structs.replace(SUBMIT, max_tokens=7)) != digest_of("d", SUBMIT)
