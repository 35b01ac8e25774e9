from typing import Any

import numpy as np
import pytest

from runtime.llm.look_ahead import Flight, can_be_followed, is_sampled_late
from runtime.llm.request import Batch, PromptImage, Request, ScheduledRequest
from runtime.submission import SamplingParams
from tests.fakes.tiny_engine import make_request


def request(num_output: int = 0, *, num_computed: int = 0, max_tokens: int = 5, **params: Any) -> Request:
    """A prompt of ten tokens, and some output."""
    made = make_request([5] * 10, max_tokens=max_tokens, sampling=SamplingParams(**params))
    made.output_token_ids = [6] * num_output
    made.num_computed_tokens = num_computed
    return made


def test_without_a_flight_requests_are_as_they_are() -> None:
    flight, made = Flight(None), request(num_computed=4)
    assert not flight
    assert (flight.num_computed_tokens(made), flight.num_missing_tokens(made)) == (4, 6)
    assert flight.next_row(made, 6) == ScheduledRequest(made, 6, True)
    assert flight.next_row(made, 5) == ScheduledRequest(made, 5, False)


def test_behind_a_chunk_the_prompt_goes_on() -> None:
    made = request(num_computed=4)
    flight = Flight(Batch([ScheduledRequest(made, 3, False)]))
    assert flight
    assert (flight.num_computed_tokens(made), flight.num_missing_tokens(made)) == (7, 3)
    row = flight.next_row(made, 3)
    assert row == ScheduledRequest(made, 3, True, num_ahead=3)
    assert row.start == 7


@pytest.mark.parametrize(("num_output", "num_computed", "num_tokens"), [(0, 4, 6), (2, 11, 1)])
def test_behind_a_sampled_row_its_token_is_awaited(num_output: int, num_computed: int, num_tokens: int) -> None:
    made = request(num_output, num_computed=num_computed)
    flight = Flight(Batch([ScheduledRequest(made, num_tokens, True)]))
    assert flight.num_missing_tokens(made) == 1
    row = flight.next_row(made, 1)
    assert row == ScheduledRequest(made, 1, True, num_ahead=num_tokens, awaits_token=True)
    assert row.start == 10 + num_output


def test_behind_the_last_token_that_a_request_may_put_out_there_is_nothing() -> None:
    made = request(4, num_computed=13)
    assert Flight(Batch([ScheduledRequest(made, 1, True)])).num_missing_tokens(made) == 0


def test_steps_that_the_host_must_see_first_are_not_followed() -> None:
    assert can_be_followed(Batch([ScheduledRequest(request(), 10, True)]))
    assert not can_be_followed(Batch([ScheduledRequest(request(1, num_computed=10), 1, True, [4])]))
    echoing = request()
    echoing.num_prompt_logprobs = 3
    assert not can_be_followed(Batch([ScheduledRequest(request(), 10, True), ScheduledRequest(echoing, 4, False)]))
    seeing = request(1, num_computed=6)
    seeing.images = [PromptImage(2, 3, b"A", np.zeros((1, 1, 3), dtype=np.uint8), (1, 1, 1))]
    assert not can_be_followed(Batch([ScheduledRequest(seeing, 5, True)]))
    seeing.num_computed_tokens = 10
    assert can_be_followed(Batch([ScheduledRequest(seeing, 1, True)]))


class Anything:
    """A constraint that holds nothing back."""

    is_complete = False

    def fill_mask(self, mask: Any) -> bool:
        return False

    def accept(self, token_id: int) -> None:
        pass

    def roll_back(self, num_tokens: int) -> None:
        pass


@pytest.mark.parametrize(
    ("params", "is_late"),
    [
        ({}, False),
        ({"top_p": 0.5, "logit_bias": {3: 1.0}}, False),
        ({"presence_penalty": 1.0}, True),
        ({"repetition_penalty": 1.1}, True),
        ({"mirostat_target": 3.0}, True),
        ({"mirostat_target": 3.0, "temperature": 0.0}, False),
        ("constraint", True),
    ],
)
def test_rows_that_look_back_are_sampled_late_when_they_await_a_token(
    params: dict[str, Any] | str, is_late: bool
) -> None:
    made = request(**params) if isinstance(params, dict) else request()
    made.constraint = Anything() if isinstance(params, str) else None
    first, plain = ScheduledRequest(made, 10, True), ScheduledRequest(request(), 10, True)
    assert not is_sampled_late(Batch([plain, first]))
    assert is_sampled_late(Batch([plain, Flight(Batch([first])).next_row(made, 1)])) == is_late
