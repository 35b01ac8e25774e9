"""Workers without processes: each a task that speaks runtime.protocol over a socket pair, as fast as the loop's clock.

For tests that need many workers, or hours of their lives. `WorkerScript` says how those of a deployment behave.
"""

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import assert_never

import msgspec

from appliance.orchestrator.assignment import ReplicaPlan
from appliance.orchestrator.launching import Launched
from appliance.orchestrator.process import LogTail, ProcessIdentity
from runtime.message import FailureCode
from runtime.protocol import (
    FRAME_HEADER,
    PROTOCOL_VERSION,
    Abort,
    AdapterLoaded,
    Asleep,
    Awake,
    Delta,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    LoadAdapter,
    Loaded,
    LoadFailed,
    LoadProgress,
    Outputs,
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
from runtime.tasks.embedding import Embed, Score
from runtime.tasks.images import Draw
from runtime.tasks.speech import Align, AudioChunk, ClearState, Listen, Trace, Transcribe

FIRST_PID = 2**30
"""No process has such a pid."""
BOOT_ID = "a boot that never was"


class WorkerScript(msgspec.Struct, kw_only=True):
    load_s: float = 2.0
    ending: str = ""
    """How a load ends, if not well: `refused` or `crash`."""
    answer_s: float = 1.0
    host_bytes: int = 1
    residual_bytes: int = 0
    """Of each device's memory, while it sleeps."""
    wake_s: float = 0.5
    heartbeat_s: float = 1.0


class InProcessWorker:
    """What `launching.Worker` asks for, and the worker itself."""

    def __init__(
        self, pid: int, plan: ReplicaPlan, script: WorkerScript, on_hold: Callable[["InProcessWorker", int], None]
    ) -> None:
        self.pid = pid
        self.plan = plan
        self.identity: ProcessIdentity | None = ProcessIdentity(pid, 0, BOOT_ID)
        self.log = LogTail(plan.label)
        self.script = script
        self.is_asleep = False
        self._on_hold = on_hold
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX)
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._living = asyncio.create_task(self._live())

    @property
    def is_alive(self) -> bool:
        return not self._ended.done()

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(sock=self._ours)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        self.end("the worker was ended by SIGKILL")
        self._ours.close()
        await asyncio.gather(self._living, *self._answers.values(), return_exceptions=True)

    def end(self, how: str) -> None:
        """As a kill would."""
        if self._ended.done():
            return
        self._ended.set_result(how)
        for task in self._answers.values():
            task.cancel()
        if self._writer is not None:
            self._living.cancel()
            self._writer.transport.abort()
        else:
            self._theirs.shutdown(socket.SHUT_RDWR)  # what is about to read it finds its end
        self._on_hold(self, 0)

    # ---- the worker's side

    async def _live(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._theirs)
        self._say(Hello(protocol=PROTOCOL_VERSION, pid=self.pid))
        beating = asyncio.create_task(self._beat())
        try:
            while True:
                length = frame_length(await reader.readexactly(FRAME_HEADER.size))
                await self._handle(decode_to_worker(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.end("the worker exited with status 1")
        finally:
            beating.cancel()
            self._writer.transport.abort()

    async def _beat(self) -> None:
        while True:
            num_running = len(self._answers)
            beat = Heartbeat(
                num_steps=0,
                is_busy=False,
                num_running=num_running,
                num_waiting=0,
                num_free_blocks=100 - num_running,
                num_blocks=100,
            )
            self._say(beat)
            await asyncio.sleep(self.script.heartbeat_s)

    async def _handle(self, message: ToWorker) -> None:
        match message:
            case Load():
                await self._load(message)
            case Submit():
                self._answers[message.request_id] = asyncio.create_task(self._answer(message))
            case Abort(request_id=request_id):
                if (answer := self._answers.pop(request_id, None)) is not None:
                    answer.cancel()
            case Sleep():
                assert not self._answers, "asked to sleep with requests"
                self.is_asleep = True
                self._on_hold(self, self.script.residual_bytes)
                self._say(Asleep(host_bytes=self.script.host_bytes))
            case Wake():
                self.is_asleep = False
                self._on_hold(self, self.plan.reserved_bytes)
                await asyncio.sleep(self.script.wake_s)
                self._say(Awake(load_ms={}))
            case LoadAdapter(adapter=adapter):
                self._say(AdapterLoaded(adapter=adapter))
            case UnloadAdapter():
                pass
            case Embed() | Score() | Transcribe() | Align() | Listen() | Draw() | AudioChunk() | Trace() | ClearState():
                raise AssertionError("it stands in for a language model")
            case Shutdown():
                self.end("the worker exited with status 0")
            case _:
                assert_never(message)

    async def _load(self, load: Load) -> None:
        self._say(LoadProgress(stage="weights", fraction=0.5))
        await asyncio.sleep(self.script.load_s)
        if self.script.ending == "crash":
            self.log.feed(b"out of luck\n")
            self.end("the worker exited with status 1")
        elif self.script.ending == "refused":
            self._say(LoadFailed(code=FailureCode.INVALID, message="not to be served"))
        else:
            assert isinstance(load.settings, LlmSettings)
            context = load.settings.max_context_length
            self._say(Loaded(footprint_bytes=1, num_blocks=100, block_size=32, max_context_length=context, load_ms={}))

    async def _answer(self, submit: Submit) -> None:
        await asyncio.sleep(self.script.answer_s)
        del self._answers[submit.request_id]
        self._say(Outputs(deltas=[Delta(request_id=submit.request_id, text="yes", finish_reason="stop")]))

    def _say(self, message: FromWorker) -> None:
        assert self._writer is not None
        self._writer.write(encode_frame(message))


class InProcessLauncher:
    """Launches workers that tests find in `workers`, alive or just dead, by pid."""

    def __init__(self) -> None:
        self.workers: dict[int, InProcessWorker] = {}
        self.scripts: dict[str, WorkerScript] = {}
        """By deployment id; others behave as by default."""
        self.on_hold: Callable[[InProcessWorker, int], None] = lambda worker, num_bytes: None
        """Told how much a worker holds of each of its devices from now on; 0 when it has ended."""
        self._pids = itertools.count(FIRST_PID)

    @property
    def alive(self) -> list[InProcessWorker]:
        return [worker for worker in self.workers.values() if worker.is_alive]

    async def start(self) -> None:
        pass

    async def launch(self, plan: ReplicaPlan) -> Launched:
        script = self.scripts.get(plan.deployment_id, WorkerScript())
        worker = InProcessWorker(next(self._pids), plan, script, self._note_memory)
        self.workers[worker.pid] = worker
        self.on_hold(worker, plan.reserved_bytes)
        return Launched(worker, None)

    async def close(self) -> None:
        for worker in self.alive:
            await worker.close()

    def _note_memory(self, worker: InProcessWorker, num_bytes: int) -> None:
        if not worker.is_alive:
            del self.workers[worker.pid]
        self.on_hold(worker, num_bytes)
