"""A follower of nobody's part but the whole, on a thread: what it is told and what it answers."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.llm_folder import inspect_llm
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.follower import Follower
from runtime.llm.parallel.messages import (
    Channel,
    Compute,
    ComputeLogits,
    Done,
    FallAsleep,
    Gone,
    LoadPart,
    Measure,
    Refused,
    Row,
    WakeUp,
)
from runtime.message import FailureCode
from tests.fakes.tiny_llm import build_tiny_model
from tests.fakes.tiny_parts import NUM_BLOCKS, settings_of


@pytest.fixture
def channel() -> Iterator[Channel]:
    ours, theirs = socket.socketpair()
    ended: list[bool] = []

    def follow() -> None:
        try:
            Follower(Channel(theirs), Share()).run()
        except Gone:
            ended.append(True)

    with theirs:
        thread = threading.Thread(target=follow)
        thread.start()
        with ours:
            yield Channel(ours)
        thread.join(30.0)
    assert ended == [True], "it ends with the channel"


def test_it_answers_all_but_forwards_and_their_logits(channel: Channel, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama")
    load = LoadPart(
        model_dir=str(directory), info=inspect_llm(directory), settings=settings_of(), num_blocks=NUM_BLOCKS
    )
    channel.send(load)
    assert channel.answer() == Done()
    for _ in range(2):
        channel.send(Compute(rows=[Row(token_ids=[3, 4, 5], start=0, block_ids=[1])], logit_rows=[1]))
        channel.send(ComputeLogits(positions=[2]))
        channel.send(Measure())
        held = channel.answer()
        assert isinstance(held, Done)
        assert held.num_bytes > 100 * 2**20
        channel.send(FallAsleep())
        assert isinstance(channel.answer(), Done)
        channel.send(WakeUp())
        assert channel.answer() == Done()


def test_what_it_cannot_load_it_refuses_with_the_reason(channel: Channel, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama")
    settings = settings_of(dtype="float16")
    channel.send(
        LoadPart(model_dir=str(directory), info=inspect_llm(directory), settings=settings, num_blocks=NUM_BLOCKS)
    )
    refused = channel.answer()
    assert isinstance(refused, Refused)
    assert (refused.code, "float16" in refused.message) == (FailureCode.INVALID, True)
