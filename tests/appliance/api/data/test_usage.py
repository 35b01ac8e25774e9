import pytest

from appliance.api.data.usage import Totals
from appliance.errors import HearthError
from runtime.protocol import Delta, Usage


def finish(index: int, *, cached: int = 0, reasoning: int = 0) -> Delta:
    usage = Usage(
        num_prompt_tokens=10, num_cached_tokens=cached, num_completion_tokens=5, num_reasoning_tokens=reasoning
    )
    return Delta(request_id="id", index=index, finish_reason="stop", usage=usage)


def test_prompts_are_counted_once_each_and_completions_all() -> None:
    totals = Totals(num_prompts=2, num_choices=2)
    for index in range(4):
        totals.add(finish(index, reasoning=index))
    totals.check_complete()
    usage = totals.usage()
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (20, 20, 40)
    assert usage.completion_tokens_details.reasoning_tokens == 6


def test_cached_tokens_are_those_that_the_choice_which_ran_first_found() -> None:
    totals = Totals(num_prompts=1, num_choices=2)
    totals.add(finish(1, cached=9))
    totals.add(finish(0, cached=3))
    assert totals.usage().prompt_tokens_details.cached_tokens == 3


def test_answer_that_ends_before_its_choices_is_an_error() -> None:
    totals = Totals(num_prompts=1, num_choices=2)
    totals.add(finish(0))
    with pytest.raises(HearthError):
        totals.check_complete()
