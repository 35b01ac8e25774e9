import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Code, HearthError
from appliance.orchestrator.inbox import COALESCE_AT, DeltaInbox, coalesce
from runtime.protocol import Delta, Performance, PromptOutput, ProtocolError, TokenLogprob, ToolCallDelta, Usage


def delta(text: str, index: int = 0, is_last: bool = False) -> Delta:
    return Delta(
        request_id="r",
        index=index,
        text=text,
        token_ids=[len(text)],
        logprobs=[TokenLogprob(token_id=len(text), token=text.encode(), logprob=-1.0)],
        finish_reason="stop" if is_last else None,
        usage=Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=1) if is_last else None,
    )


async def test_unread_pieces_are_read_as_one_per_choice() -> None:
    inbox = DeltaInbox(num_choices=2)
    for piece in (delta("a"), delta("x", index=1), delta("b"), delta("c", is_last=True)):
        inbox.put(piece)
    first, second = await inbox.take()
    assert (first.text, first.token_ids, first.finish_reason) == ("abc", [1, 1, 1], "stop")
    assert [entry.token for entry in first.logprobs or []] == [b"a", b"b", b"c"]
    assert first.usage is not None
    assert second == delta("x", index=1)
    assert not inbox.is_complete


def test_merged_pieces_keep_what_came_first_and_what_came_last() -> None:
    prompt = PromptOutput(text="p", token_ids=[9])
    times = Performance(
        tokenizer_queue_s=0,
        tokenizer_s=0,
        prefill_queue_s=0,
        prefill_s=0,
        generation_queue_s=0,
        generation_s=0,
        num_concurrent_requests=1,
    )
    call = [ToolCallDelta(index=0, id="c", name="f"), ToolCallDelta(index=0, arguments="{}")]
    pieces = [
        Delta(
            request_id="r",
            prompt=prompt,
            echo_token_ids=[9],
            reasoning="a",
            raw_text="x",
            tool_calls=call[:1],
            num_prompt_tokens=5,
            num_cached_tokens=4,
        ),
        Delta(request_id="r", reasoning="b", raw_text="y", tool_calls=call[1:], performance=times),
    ]
    (merged,) = coalesce(pieces)
    whole = Delta(
        request_id="r",
        prompt=prompt,
        echo_token_ids=[9],
        reasoning="ab",
        raw_text="xy",
        tool_calls=call,
        performance=times,
        num_prompt_tokens=5,
        num_cached_tokens=4,
    )
    assert merged == whole
    untouched = {
        name for name in Delta.__struct_fields__ if getattr(merged, name) == getattr(Delta(request_id="r"), name)
    }
    assert untouched == {"request_id", "index", "text", "token_ids", "logprobs", "finish_reason", "usage"}, "seen above"


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3)), max_size=300))
def test_merging_loses_nothing_whenever_it_happens(pieces: list[tuple[int, str]]) -> None:
    deltas = [delta(text, index) for index, text in pieces]
    step_by_step: list[Delta] = []
    for piece in deltas:
        step_by_step = coalesce([*step_by_step, piece])
    assert step_by_step == coalesce(deltas)
    for index in range(4):
        whole = "".join(text for at, text in pieces if at == index)
        assert "".join(piece.text for piece in coalesce(deltas) if piece.index == index) == whole


async def test_unread_pieces_stay_few_however_many_come() -> None:
    inbox = DeltaInbox(num_choices=1)
    for _ in range(10 * COALESCE_AT):
        inbox.put(delta("a"))
        assert len(inbox._unread) <= COALESCE_AT
    (piece,) = await inbox.take()
    assert piece.text == "a" * 10 * COALESCE_AT


def test_a_finished_choice_gets_nothing_more() -> None:
    inbox = DeltaInbox(num_choices=2)
    inbox.put(delta("a", is_last=True))
    with pytest.raises(ProtocolError, match="choice 0"):
        inbox.put(delta("b"))
    with pytest.raises(ProtocolError, match="choice 2"):
        inbox.put(delta("b", index=2))
    inbox.put(delta("b", index=1, is_last=True))
    assert inbox.is_complete


async def test_a_failure_comes_after_what_was_there_before_it() -> None:
    inbox = DeltaInbox(num_choices=1)
    inbox.put(delta("a"))
    inbox.fail(HearthError(Code.UNAVAILABLE, "gone"))
    assert await inbox.take() == [delta("a")]
    with pytest.raises(HearthError, match="gone"):
        await inbox.take()


async def test_taking_waits_for_something_to_come() -> None:
    inbox = DeltaInbox(num_choices=1)
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    inbox.put(delta("a"))
    assert await taking == [delta("a")]
