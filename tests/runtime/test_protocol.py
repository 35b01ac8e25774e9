"""Every message survives the wire, and what is not the protocol is refused by name."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Code
from runtime import protocol
from runtime.message import FailureCode
from runtime.protocol import (
    FRAME_BYTES_MAX,
    FRAME_HEADER,
    Abort,
    Delta,
    FromWorker,
    Outputs,
    ProtocolError,
    ToWorker,
    Usage,
    decode_from_worker,
    decode_to_worker,
    encode_frame,
    frame_length,
)

EXAMPLES: dict[Any, Any] = {
    Any: {"raw": ["JSON"]},
    int: 7,
    str: "täxt",
    bytes: b"\xff\x00",
    float: 0.5,
    bool: True,
}


def example(kind: Any) -> Any:
    """A value of any type the protocol uses, every field filled."""
    if kind in EXAMPLES:
        return EXAMPLES[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{field.name: example(field.type) for field in msgspec.structs.fields(kind)})
    if isinstance(kind, type) and issubclass(kind, FailureCode):
        return FailureCode.INVALID
    origin, arguments = getattr(kind, "__origin__", None), get_args(kind)
    if origin is list:
        return [example(arguments[0])]
    if origin is dict:
        return {example(arguments[0]): example(arguments[1])}
    first = arguments[0]  # a union's first member, or a literal's first value
    return first if isinstance(first, str) else example(first)


@pytest.mark.parametrize("kind", get_args(ToWorker))
def test_messages_to_a_worker_survive_the_wire(kind: type) -> None:
    message = example(kind)
    assert decode_to_worker(encode_frame(message)[FRAME_HEADER.size :]) == message


@pytest.mark.parametrize("kind", get_args(FromWorker))
def test_messages_from_a_worker_survive_the_wire(kind: type) -> None:
    message = example(kind)
    assert decode_from_worker(encode_frame(message)[FRAME_HEADER.size :]) == message


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"type": "Explode"}, "Explode"),
        ({"type": "Abort", "request_id": 7}, "request_id"),
        ({"type": "Abort", "request_id": "a", "extra": 1}, "extra"),
        ({"type": "Abort"}, "request_id"),
        ([1, 2, 3], "array"),
    ],
)
def test_a_bad_message_is_refused_naming_the_path(raw: object, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        decode_to_worker(msgspec.msgpack.encode(raw))


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(payload: bytes) -> None:
    for decode in (decode_to_worker, decode_from_worker):
        try:
            decode(payload)
        except ProtocolError:
            pass


def test_frames_are_bounded_on_both_ends() -> None:
    assert frame_length(encode_frame(Abort(request_id="a"))[: FRAME_HEADER.size]) > 0
    with pytest.raises(ProtocolError, match="exceeds"):
        frame_length(FRAME_HEADER.pack(FRAME_BYTES_MAX + 1))
    with pytest.raises(ProtocolError, match="Abort"):
        encode_frame(Abort(request_id="a" * FRAME_BYTES_MAX))


def test_a_delta_costs_few_bytes() -> None:
    """Thousands cross per second: fields at their default must not be sent by name."""
    delta = Delta(request_id="r" * 26, text=" hello", token_ids=[12345])
    assert len(encode_frame(Outputs(deltas=[delta]))) < 80


def test_defaults_come_back() -> None:
    message = Outputs(
        deltas=[
            Delta(request_id="a"),
            Delta(
                request_id="b",
                finish_reason="stop",
                usage=Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=2),
            ),
        ]
    )
    assert decode_from_worker(encode_frame(message)[FRAME_HEADER.size :]) == message


def test_failure_codes_are_codes_of_the_daemon() -> None:
    assert {code.value for code in FailureCode} <= {code.value for code in Code}


def test_the_protocol_needs_only_msgspec() -> None:
    assert not [name for name in vars(protocol) if name in {"torch", "numpy", "asyncio"}]
