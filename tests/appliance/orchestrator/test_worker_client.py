import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import NamedTuple

import pytest

from appliance.errors import Code, HearthError
from appliance.orchestrator.worker_client import (
    DISCONNECTED,
    AdapterRefused,
    LoadRefused,
    WorkerClient,
    WorkerLost,
)
from runtime.message import FailureCode
from runtime.protocol import (
    FRAME_BYTES_MAX,
    FRAME_HEADER,
    PROTOCOL_VERSION,
    Abort,
    AdapterFailed,
    AdapterLoaded,
    AnyFollowUp,
    Asleep,
    Awake,
    Delta,
    Failed,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    LoadAdapter,
    Loaded,
    LoadFailed,
    LoadProgress,
    Outputs,
    Prepared,
    Shutdown,
    Sleep,
    Submit,
    ToWorker,
    UnloadAdapter,
    Wake,
    decode_to_worker,
    encode_frame,
    frame_length,
)
from runtime.settings import LlmSettings
from runtime.submission import TextPrompt
from runtime.tasks.speech import AudioChunk, Listen, Listening, Traced
from tests.waiting import until

LOAD = Load(
    model_dir="/m",
    file_sha256={},
    settings=LlmSettings(device="cpu", dtype="float32", memory_budget_bytes=1, max_context_length=64),
)
LOADED = Loaded(footprint_bytes=1, num_blocks=1, block_size=32, max_context_length=64, load_ms={})


class Peer(NamedTuple):
    """The worker's end of the socket, played by the test."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, *messages: FromWorker) -> None:
        for message in messages:
            self.writer.write(encode_frame(message))

    async def hear(self) -> ToWorker:
        async with asyncio.timeout(60):
            length = frame_length(await self.reader.readexactly(FRAME_HEADER.size))
            return decode_to_worker(await self.reader.readexactly(length))


class Link(NamedTuple):
    client: WorkerClient
    peer: Peer


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    client = WorkerClient(*await asyncio.open_unix_connection(sock=ours), os.getpid())
    peer = Peer(*await asyncio.open_unix_connection(sock=theirs))
    yield Link(client, peer)
    await client.close("the test is over")
    peer.writer.transport.abort()


def submit(request_id: str = "r", num_choices: int = 1, text: str = "hello") -> Submit:
    return Submit(request_id=request_id, prompt=TextPrompt(text=text), num_choices=num_choices)


def delta(text: str, request_id: str = "r", index: int = 0, is_last: bool = False) -> Delta:
    return Delta(request_id=request_id, index=index, text=text, finish_reason="stop" if is_last else None)


async def collect(client: WorkerClient, request: Submit) -> str:
    async with aclosing(client.generate(request)) as outputs:
        return "".join([piece.text async for deltas in outputs for piece in deltas])


async def test_a_worker_is_greeted_and_loaded(link: Link) -> None:
    link.peer.say(Hello(protocol=PROTOCOL_VERSION, pid=os.getpid()))
    await link.client.greet()
    loading = asyncio.create_task(link.client.load(LOAD))
    assert await link.peer.hear() == LOAD
    link.peer.say(LoadProgress(stage="weights", fraction=0.5), LOADED)
    assert await loading == LOADED
    assert link.client.vitals.progress == LoadProgress(stage="weights", fraction=0.5)


@pytest.mark.parametrize(
    ("protocol", "pid"), [(PROTOCOL_VERSION + 1, os.getpid()), (PROTOCOL_VERSION, 1)], ids=["protocol", "process"]
)
async def test_a_stranger_is_not_greeted(link: Link, protocol: int, pid: int) -> None:
    link.peer.say(Hello(protocol=protocol, pid=pid))
    with pytest.raises(WorkerLost, match="protocol"):
        await link.client.greet()


async def test_a_refused_load_says_why(link: Link) -> None:
    loading = asyncio.create_task(link.client.load(LOAD))
    await link.peer.hear()
    link.peer.say(LoadFailed(code=FailureCode.INVALID, message="no such architecture"))
    with pytest.raises(LoadRefused, match="no such architecture"):
        await loading


async def test_a_worker_lost_while_loading_answers_nothing_more(link: Link) -> None:
    loading = asyncio.create_task(link.client.load(LOAD))
    await link.peer.hear()
    link.peer.writer.close()
    with pytest.raises(WorkerLost, match=DISCONNECTED):
        await loading


async def test_requests_get_their_own_deltas_until_their_last_choice_has_finished(link: Link) -> None:
    both = asyncio.gather(collect(link.client, submit("r", 2)), collect(link.client, submit("s")))
    await link.peer.hear()
    await link.peer.hear()
    assert link.client.num_in_flight == 2
    link.peer.say(Outputs(deltas=[delta("a"), delta("x", "s")]), Outputs(deltas=[delta("b", is_last=True)]))
    link.peer.say(Outputs(deltas=[delta("y", "s", is_last=True)]), Outputs(deltas=[delta("c", index=1, is_last=True)]))
    assert list(await both) == ["abc", "xy"]
    assert link.client.num_in_flight == 0


async def test_a_refused_request_ends_alone_with_the_workers_words(link: Link) -> None:
    refused = asyncio.create_task(collect(link.client, submit("r")))
    other = asyncio.create_task(collect(link.client, submit("s")))
    await link.peer.hear()
    await link.peer.hear()
    full = FailureCode.OVERLOADED
    link.peer.say(Failed(request_id="r", code=full, message="too long", param="prompt", retry_after_s=7))
    with pytest.raises(HearthError, match="too long") as raised:
        await refused
    assert (raised.value.code, raised.value.param, raised.value.retry_after_s) == (Code.OVERLOADED, "prompt", 7)
    link.peer.say(Outputs(deltas=[delta("fine", "s", is_last=True)]))
    assert await other == "fine"


LISTEN = Listen(request_id="l", listening=Listening())


async def chunks(*texts: str) -> AsyncIterator[AnyFollowUp]:
    for text in texts:
        if text == "too much":
            raise HearthError(Code.TOO_LARGE, text)
        yield AudioChunk(request_id="l", data=text.encode())


async def heard(client: WorkerClient, *texts: str) -> list[str]:
    async with aclosing(client.carry_out(LISTEN, chunks(*texts))) as outputs:
        return [piece.trace_id async for pieces in outputs for piece in pieces if isinstance(piece, Traced)]


async def test_a_task_is_followed_by_its_parts_and_answered_in_pieces(link: Link) -> None:
    answer = asyncio.create_task(heard(link.client, "one", "two"))
    assert await link.peer.hear() == LISTEN
    assert [await link.peer.hear() for _ in range(2)] == [
        AudioChunk(request_id="l", data=b"one"),
        AudioChunk(request_id="l", data=b"two"),
    ]
    link.peer.say(Traced(request_id="l", trace_id="1"), Traced(request_id="l", trace_id="2", is_last=True))
    assert await answer == ["1", "2"]
    assert link.client.num_in_flight == 0


async def test_what_its_parts_raise_ends_the_task_in_the_worker_too(link: Link) -> None:
    with pytest.raises(HearthError, match="too much"):
        await heard(link.client, "one", "too much")
    said = [await link.peer.hear() for _ in range(3)]
    assert (said[0], said[2]) == (LISTEN, Abort(request_id="l"))


async def test_a_delta_for_a_task_that_is_no_generation_breaks_the_protocol(link: Link) -> None:
    answer = asyncio.create_task(heard(link.client))
    await link.peer.hear()
    link.peer.say(Outputs(deltas=[delta("a", "l")]))
    with pytest.raises(HearthError) as raised:
        await answer
    assert raised.value.reason == "WORKER_LOST"


async def test_closing_the_iterator_aborts_the_request_once(link: Link) -> None:
    async with aclosing(link.client.generate(submit())) as outputs:
        link.peer.say(Outputs(deltas=[delta("a")]))
        await anext(outputs)
    assert await link.peer.hear() == submit()
    assert await link.peer.hear() == Abort(request_id="r")
    assert link.client.num_in_flight == 0


async def test_a_request_is_aborted_when_its_consumer_is_cancelled_before_the_first_token(link: Link) -> None:
    consuming = asyncio.create_task(collect(link.client, submit()))
    await link.peer.hear()
    consuming.cancel()
    assert await link.peer.hear() == Abort(request_id="r")


async def test_a_finished_request_is_not_aborted(link: Link) -> None:
    async with aclosing(link.client.generate(submit())) as outputs:
        link.peer.say(Outputs(deltas=[delta("a", is_last=True)]))
        await anext(outputs)
    link.client.shut_down()
    assert await link.peer.hear() == submit()
    assert await link.peer.hear() == Shutdown()


async def test_outputs_under_way_when_a_request_was_aborted_are_dropped(link: Link) -> None:
    async with aclosing(link.client.generate(submit())) as outputs:
        link.peer.say(Outputs(deltas=[delta("a")]))
        await anext(outputs)
    link.peer.say(Outputs(deltas=[delta("b"), delta("c", is_last=True)]))
    link.peer.say(Failed(request_id="r", code=FailureCode.INTERNAL, message="late"))
    answer = asyncio.create_task(collect(link.client, submit("s")))
    link.peer.say(Outputs(deltas=[delta("fine", "s", is_last=True)]))
    assert await answer == "fine"
    assert not link.client.lost.done()


async def test_aborts_pass_by_a_submit_that_waits_for_the_socket(link: Link) -> None:
    link.peer.reader._transport.pause_reading()  # type: ignore[attr-defined]  # the worker reads nothing for a while
    large = submit("large", text="x" * (FRAME_BYTES_MAX - 1000))
    stuck = asyncio.create_task(collect(link.client, large))
    await until(lambda: link.client.num_in_flight == 1)
    behind = asyncio.create_task(collect(link.client, submit("behind")))
    await until(lambda: link.client.num_in_flight == 2)
    behind.cancel()
    stuck.cancel()
    await asyncio.wait({behind, stuck})
    link.peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
    assert await link.peer.hear() == large
    assert await link.peer.hear() == Abort(request_id="large")  # and nothing of the one that was never sent


async def test_a_request_too_large_for_a_frame_ends_alone(link: Link) -> None:
    with pytest.raises(HearthError) as raised:
        await collect(link.client, submit(text="x" * (FRAME_BYTES_MAX + 1)))
    assert raised.value.code is Code.TOO_LARGE
    assert link.client.num_in_flight == 0


@pytest.mark.parametrize(
    "frames",
    [
        FRAME_HEADER.pack(3) + b"\xff\xff\xff",
        FRAME_HEADER.pack(FRAME_BYTES_MAX + 1),
        encode_frame(submit("not for the daemon")),
        encode_frame(Outputs(deltas=[delta("?", "unknown")])),
        encode_frame(Failed(request_id="unknown", code=FailureCode.INTERNAL, message="?")),
        encode_frame(Outputs(deltas=[delta("?", index=1)])),
        encode_frame(Outputs(deltas=[delta("end", is_last=True), delta("after the end")])),
        encode_frame(Outputs(deltas=[delta("end", is_last=True), delta("", is_last=True)])),
        2 * encode_frame(LOADED),
    ],
    ids=lambda frames: repr(frames[:40]),
)
async def test_a_worker_that_breaks_the_protocol_is_lost(link: Link, frames: bytes) -> None:
    answer = asyncio.create_task(collect(link.client, submit()))
    await link.peer.hear()
    link.peer.writer.write(frames)
    async with asyncio.timeout(60):
        assert "broke the protocol" in await asyncio.shield(link.client.lost)
    link.client.shut_down()  # nothing is written to a lost worker
    await asyncio.wait({answer})
    assert await link.peer.reader.read() == b""


async def test_requests_of_a_lost_worker_end_at_once_after_what_they_got(link: Link) -> None:
    requests = [asyncio.create_task(collect(link.client, submit(f"r{number}"))) for number in range(50)]
    for _ in requests:
        await link.peer.hear()
    link.peer.writer.transport.abort()
    async with asyncio.timeout(60):
        for request in requests:
            with pytest.raises(HearthError) as raised:
                await request
            assert (raised.value.code, raised.value.reason) == (Code.UNAVAILABLE, "WORKER_LOST")
    with pytest.raises(HearthError, match="worker"):
        await collect(link.client, submit("later"))


async def test_a_slow_consumer_gets_everything_in_one_piece(link: Link) -> None:
    async with aclosing(link.client.generate(submit())) as outputs:
        link.peer.say(Outputs(deltas=[delta("0")]))
        text = (await anext(outputs))[0].text
        for number in range(1, 1000):
            link.peer.say(Outputs(deltas=[delta(str(number), is_last=number == 999)]))
        await until(lambda: link.client.num_in_flight == 0)
        (piece,) = await anext(outputs)
        assert text + piece.text == "".join(map(str, range(1000)))
        assert await anext(outputs, None) is None


async def test_heartbeats_are_signs_of_life(link: Link) -> None:
    before = link.client.vitals.heard_at
    beat = Heartbeat(num_steps=3, is_busy=True, num_running=1, num_waiting=0, num_free_blocks=0, num_blocks=0)
    link.peer.say(beat)
    await until(lambda: link.client.vitals.heartbeat == beat)
    assert link.client.vitals.heard_at > before


async def test_a_worker_is_put_to_sleep_and_woken_again_and_again(link: Link) -> None:
    for number in range(2):
        sleeping = asyncio.create_task(link.client.sleep())
        assert await link.peer.hear() == Sleep()
        link.peer.say(Asleep(host_bytes=number))
        assert await sleeping == number
        waking = asyncio.create_task(link.client.wake())
        assert await link.peer.hear() == Wake()
        link.peer.say(LoadProgress(stage="weights", fraction=0.5), Awake(load_ms={"weights": 3.0}))
        assert await waking == {"weights": 3.0}


@pytest.mark.parametrize("message", [Asleep(host_bytes=1), Awake(load_ms={})])
async def test_a_worker_that_sleeps_or_wakes_unasked_is_lost(link: Link, message: FromWorker) -> None:
    link.peer.say(message)
    async with asyncio.timeout(60):
        assert "broke the protocol" in await asyncio.shield(link.client.lost)


async def test_a_spare_worker_says_when_it_is_prepared(link: Link) -> None:
    link.peer.say(Hello(protocol=PROTOCOL_VERSION, pid=os.getpid()), Prepared(footprint_bytes=9))
    assert await link.client.prepared == Prepared(footprint_bytes=9)


async def test_a_lost_worker_tells_how_many_requests_it_had(link: Link) -> None:
    requests = [asyncio.create_task(collect(link.client, submit(f"r{number}"))) for number in range(3)]
    for _ in requests:
        await link.peer.hear()
    link.peer.writer.transport.abort()
    await asyncio.wait(requests)
    assert link.client.num_lost == 3


def load_adapter(adapter: str) -> LoadAdapter:
    return LoadAdapter(adapter=adapter, directory="/a", file_sha256={})


async def test_each_adapter_gets_its_own_answer_and_can_be_loaded_again(link: Link) -> None:
    names = ("accent", "noise")
    loads = [asyncio.create_task(link.client.load_adapter(load_adapter(name))) for name in names]
    assert [await link.peer.hear() for _ in names] == [load_adapter(name) for name in names]
    link.peer.say(AdapterFailed(adapter="noise", code=FailureCode.INVALID, message="too wide"))
    link.peer.say(AdapterLoaded(adapter="accent"))
    with pytest.raises(AdapterRefused, match="too wide") as refused:
        await loads[1]
    assert refused.value.code is FailureCode.INVALID
    await loads[0]
    link.client.unload_adapter("accent")
    assert await link.peer.hear() == UnloadAdapter(adapter="accent")
    again = asyncio.create_task(link.client.load_adapter(load_adapter("noise")))
    await link.peer.hear()
    link.peer.say(AdapterLoaded(adapter="noise"))
    await again


async def test_a_worker_lost_while_an_adapter_loads_answers_nothing_more(link: Link) -> None:
    loading = asyncio.create_task(link.client.load_adapter(load_adapter("accent")))
    await link.peer.hear()
    link.peer.writer.close()
    with pytest.raises(WorkerLost):
        await loading


async def test_a_worker_that_speaks_of_an_adapter_unasked_is_lost(link: Link) -> None:
    link.peer.say(AdapterLoaded(adapter="accent"))
    assert "nobody waits for" in await link.client.lost
