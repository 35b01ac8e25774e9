import socket
import threading
from collections.abc import Iterator
from typing import get_args

import pytest

from runtime.llm.parallel.messages import Channel, Compute, ComputeLogits, Done, Gone, Measure, Order, Refused, Row
from runtime.message import FailureCode


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), Channel(theirs)


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    rows = [Row(token_ids=list(range(300_000)), start=5, block_ids=[1, 2])]
    orders: list[Order] = [Compute(rows=rows, logit_rows=[7]), ComputeLogits(positions=[0, 3]), Measure()]

    def send() -> None:
        for order in orders:
            ours.send(order)

    sender = threading.Thread(target=send)
    sender.start()  # more than a socket takes at once
    assert [theirs.order() for _ in orders] == orders
    sender.join()
    theirs.send(Refused(code=FailureCode.INVALID, message="no"))
    theirs.send(Done(num_bytes=7))
    assert ours.answer() == Refused(code=FailureCode.INVALID, message="no")
    assert ours.answer() == Done(num_bytes=7)
    assert len(get_args(Order)) == 7


def test_one_sees_whether_there_is_anything_to_read(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert not theirs.has_message()
    ours.send(Measure())
    ours.send(Measure())
    assert theirs.has_message()
    theirs.order()
    assert theirs.has_message(), "it was read with the first"


def test_the_end_of_the_other_is_noticed_by_who_reads_and_who_writes(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.close()
    assert theirs.has_message()
    with pytest.raises(Gone):
        theirs.order()
    with pytest.raises(Gone):
        theirs.send(Done())
