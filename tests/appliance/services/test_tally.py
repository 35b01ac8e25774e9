"""Counting a request's tokens delta by delta."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import TokenCounts
from appliance.services.tally import DeltaTally, PieceTally
from runtime.message import Used
from runtime.protocol import Delta, Usage
from runtime.tasks.images import Drawing, Drawn
from runtime.tasks.speech import Transcribed


def delta(index: int, num_tokens: int, prompt: tuple[int, int] = (0, 0)) -> Delta:
    num_prompt, num_cached = prompt
    token_ids = list(range(num_tokens))
    return Delta(
        request_id="r", index=index, token_ids=token_ids, num_prompt_tokens=num_prompt, num_cached_tokens=num_cached
    )


def last(index: int, num_tokens: int, num_prompt: int = 7, num_cached: int = 3) -> Delta:
    """The end of a choice of so many tokens, none of them new."""
    usage = Usage(num_prompt_tokens=num_prompt, num_cached_tokens=num_cached, num_completion_tokens=num_tokens)
    return Delta(request_id="r", index=index, finish_reason="stop", usage=usage)


def test_a_request_that_never_finishes_is_counted_as_far_as_it_came() -> None:
    tally = DeltaTally(1, 1)
    tally.add([delta(0, 1, (7, 3))])
    tally.add([delta(0, 2)])
    expected = TokenCounts(num_requests=1, num_prompt_tokens=7, num_cached_tokens=3, num_completion_tokens=3)
    assert tally.counts == expected
    assert not tally.is_finished


def test_a_request_without_any_output_counts_nothing() -> None:
    assert DeltaTally(1, 1).counts == TokenCounts()


def test_a_prompt_counts_once_however_many_choices_it_has_and_is_cached_as_the_first_found_it() -> None:
    tally = DeltaTally(1, 2)
    tally.add([delta(0, 1, (7, 0)), delta(1, 1, (7, 7))])
    tally.add([last(0, 1, num_cached=0), last(1, 1, num_cached=7)])
    counts = TokenCounts(num_requests=1, num_prompt_tokens=7, num_cached_tokens=0, num_completion_tokens=2)
    assert tally.counts == counts
    assert tally.is_finished


def test_prompts_are_known_when_each_has_begun() -> None:
    tally = DeltaTally(2, 1)
    known = []
    for first in (delta(0, 1, (7, 0)), delta(1, 1, (5, 0))):
        tally.add([first])
        known.append(tally.knows_prompts)
    assert known == [False, True]
    assert tally.num_prompt_tokens == 12


@given(st.lists(st.integers(0, 3), max_size=20))
def test_the_workers_usage_is_what_counts_in_the_end(steps: list[int]) -> None:
    tally = DeltaTally(1, 1)
    for num_tokens in steps:
        tally.add([delta(0, num_tokens)])
    tally.add([last(0, 11)])
    assert tally.num_completion_tokens == 11


def test_pieces_add_up_to_what_their_task_used() -> None:
    tally = PieceTally()
    assert not tally.has_begun
    tally.add([Transcribed(request_id="r", used=Used(audio_ms=30_000)), Transcribed(request_id="r")])
    assert (tally.has_begun, tally.is_finished, tally.knows_prompts) == (True, False, False)
    tally.add([Transcribed(request_id="r", is_last=True, used=Used(audio_ms=1500, num_prompt_tokens=3))])
    assert (tally.is_finished, tally.knows_prompts) == (True, True)
    assert tally.counts == TokenCounts(num_requests=1, num_prompt_tokens=3, audio_ms=31_500)


def test_pictures_are_counted_when_they_are_made() -> None:
    tally = PieceTally()
    tally.add([Drawing(request_id="r", num_steps_done=1, num_steps=2)])
    assert tally.counts == TokenCounts(num_requests=1)
    tally.add([Drawn(request_id="r", index=0, data=b"p", is_last=True, used=Used(num_images=1))])
    assert tally.counts == TokenCounts(num_requests=1, num_images=1)
