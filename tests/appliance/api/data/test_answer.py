from appliance.api.data.answer import LEGACY_SHAPE, SHAPE, merge_calls
from runtime.protocol import Delta, ToolCallDelta

PIECES = [
    ToolCallDelta(index=1, id="b", name="g"),
    ToolCallDelta(index=0, id="a", name="f", arguments="{"),
    ToolCallDelta(index=0, arguments="}"),
]


def test_pieces_of_calls_are_joined_by_their_index() -> None:
    assert merge_calls(PIECES) == [
        ToolCallDelta(index=0, id="a", name="f", arguments="{}"),
        ToolCallDelta(index=1, id="b", name="g"),
    ]


def test_a_chunk_names_a_call_once() -> None:
    assert SHAPE.rich_member is not None
    begun = SHAPE.rich_member(Delta(request_id="r", tool_calls=PIECES[1:2]))
    assert begun == (
        b'"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{"}}]}'
    )
    going_on = SHAPE.rich_member(Delta(request_id="r", reasoning="hm", text="x", tool_calls=PIECES[2:]))
    assert going_on == (
        b'"delta":{"reasoning_content":"hm","content":"x","tool_calls":[{"index":0,"function":{"arguments":"}"}}]}'
    )


def test_the_older_form_has_no_second_call() -> None:
    assert LEGACY_SHAPE.rich_member is not None
    chunk = LEGACY_SHAPE.rich_member(Delta(request_id="r", tool_calls=PIECES))
    assert chunk == b'"delta":{"function_call":{"name":"f","arguments":"{}"}}'
    assert LEGACY_SHAPE.rich_member(Delta(request_id="r", tool_calls=PIECES[:1])) == b'"delta":{}'
