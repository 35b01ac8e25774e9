"""A worker without a model: speaks runtime.protocol like the real one, makes its tokens up, and misbehaves on command.

Started as `python -m tests.fakes.fake_worker` with the real one's arguments. `FakeModel`, a file in the model's
directory, tells it how to load, sleep and wake; `Script`, which is a prompt's text, tells it what to do with that
request. Any other prompt gets a well-behaved answer, the same in every run: `answer` says which. With `--kind spare` it
is prepared at once. An adapter's directory may hold a file `refuse`, `fail` or `hang`.
"""

import argparse
import json
import os
import select
import signal
import socket
import sys
import time
import zlib
from enum import StrEnum
from pathlib import Path
from typing import Literal, NoReturn, assert_never

import msgspec

from runtime.__main__ import die_with_parent
from runtime.message import FailureCode
from runtime.protocol import (
    FRAME_BYTES_MAX,
    FRAME_HEADER,
    PROTOCOL_VERSION,
    Abort,
    AdapterFailed,
    AdapterLoaded,
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
    TokenLogprob,
    TopLogprob,
    ToWorker,
    UnloadAdapter,
    Usage,
    Wake,
    decode_to_worker,
    encode_frame,
    frame_length,
)
from runtime.settings import LlmSettings
from runtime.submission import ChatPrompt, TextPrompt, TokenPrompt
from runtime.tasks.embedding import Embed, Score
from runtime.tasks.images import Draw
from runtime.tasks.speech import Align, AudioChunk, ClearState, Listen, Trace, Transcribe
from tests.fakes.low_level import with_low_level

NUM_BLOCKS = 1024
FOREVER_S = 1e6


class FakeModel(msgspec.Struct, frozen=True, kw_only=True):
    """How the worker loads and runs; a model directory without the file means the defaults."""

    load: Literal["succeed", "refuse", "fail", "exit", "hang"] = "succeed"
    load_s: float = 0.0
    """Spent with progress reports on the way."""
    exit_status: int = 3
    log_lines: list[str] = []
    """Written to stderr before loading."""
    step_ms: float = 1.0
    """Time of one engine step, which gives every running request one token per choice."""
    max_num_running: int = 4096
    """Further requests wait."""
    heartbeat_s: float = 0.1
    exit_on_shutdown: bool = True
    footprint_bytes: int = 1
    """As it says to have measured."""
    host_bytes: int = 1
    """As it says to hold while it sleeps."""
    sleep: Literal["succeed", "exit", "hang"] = "succeed"
    wake_s: float = 0.0

    def write(self, directory: Path) -> None:
        (directory / "fake-model.json").write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, directory: Path) -> "FakeModel":
        file = directory / "fake-model.json"
        return msgspec.json.decode(file.read_bytes(), type=cls) if file.exists() else cls()


class Act(StrEnum):
    EXIT = "exit"
    SEGV = "segv"
    HANG = "hang"  # the whole process stands still
    STAND_STILL = "stand-still"  # the engine does; heartbeats go on
    FALL_SILENT = "fall-silent"  # heartbeats end; tokens go on
    CLOSE = "close"  # the connection ends; the process does not
    GARBAGE = "garbage"  # a frame that is no message
    OVERSIZE = "oversize"  # a frame longer than allowed
    UNKNOWN_REQUEST = "unknown-request"  # an output of a request that nobody made
    REPEAT_FINISH = "repeat-finish"  # the request's end twice
    FAIL = "fail"  # this request alone
    ENVIRONMENT = "environment"  # its environment as the text of the next token


class Script(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    num_tokens: int = 8
    prefill_ms: float = 0.0
    act: Act | None = None
    at: int = 0
    """The token before which it acts."""

    def text(self) -> str:
        """To be sent as a prompt."""
        return json.dumps({"fake-worker": msgspec.to_builtins(self)})

    @classmethod
    def read(cls, text: str) -> "Script":
        if not text.startswith('{"fake-worker"'):
            return cls()
        return msgspec.convert(json.loads(text)["fake-worker"], cls)


def token_text(prompt_text: str, index: int, position: int) -> str:
    return f"{zlib.crc32(prompt_text.encode()) % 1000}.{index}.{position} "


def answer(prompt_text: str, index: int = 0, num_tokens: int = 8, adapter: str = "") -> str:
    """The text that choice `index` of a well-behaved request ends up with."""
    return "".join(token_text(adapter + prompt_text, index, position) for position in range(num_tokens))


class Request:
    def __init__(self, submit: Submit) -> None:
        self.submit = submit
        self.text = _text_of(submit)
        self.script = Script.read(self.text)
        self.position = 0
        self.starts_at = time.monotonic() + self.script.prefill_ms / 1000
        allowed = self.script.num_tokens if submit.max_tokens is None else submit.max_tokens
        self.num_tokens = min(self.script.num_tokens, allowed)
        self.finish_reason: Literal["stop", "length"] = "stop" if self.script.num_tokens <= allowed else "length"

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.text.split())

    @property
    def is_finished(self) -> bool:
        return self.position >= self.num_tokens

    def step(self, is_environment_asked: bool) -> list[Delta]:
        """The next token of each choice."""
        position = self.position
        self.position += 1
        return [self._delta(index, position, is_environment_asked) for index in range(self.submit.num_choices)]

    def _delta(self, index: int, position: int, is_environment_asked: bool) -> Delta:
        text = token_text(self.submit.adapter + self.text, index, position)
        if is_environment_asked:
            text = json.dumps(dict(os.environ))
        delta = Delta(
            request_id=self.submit.request_id,
            index=index,
            text=text,
            token_ids=[position],
            logprobs=self._logprobs(text, position),
            finish_reason=self.finish_reason if self.is_finished else None,
            usage=self._usage() if self.is_finished else None,
            num_prompt_tokens=0 if position else self.num_prompt_tokens,
        )
        return with_low_level(self.submit, delta, self.num_prompt_tokens, is_first=position == 0)

    def _usage(self) -> Usage:
        return Usage(num_prompt_tokens=self.num_prompt_tokens, num_cached_tokens=0, num_completion_tokens=self.position)

    def _logprobs(self, text: str, position: int) -> list[TokenLogprob] | None:
        if self.submit.num_logprobs is None:
            return None
        token = text.encode()
        top = [
            TopLogprob(token_id=position + rank, token=token, logprob=-0.5 - rank)
            for rank in range(self.submit.num_logprobs)
        ]
        return [TokenLogprob(token_id=position, token=token, logprob=-0.5, top=top)]


class FakeWorker:
    def __init__(self, connection: socket.socket, is_spare: bool) -> None:
        self._connection = connection
        self._is_spare = is_spare
        self._adapters: set[str] = set()
        self._received = bytearray()
        self._model = FakeModel()
        self._requests: dict[str, Request] = {}
        self._num_steps = 0
        self._next_step_at = 0.0
        self._next_heartbeat_at = time.monotonic()

    def run(self) -> None:
        self._send(Hello(protocol=PROTOCOL_VERSION, pid=os.getpid()))
        if self._is_spare:
            self._send(Prepared(footprint_bytes=1))
        while True:
            next_at = min(self._next_heartbeat_at, self._next_step_at if self._requests else FOREVER_S * 1000)
            readable, _, _ = select.select([self._connection], [], [], max(0.0, next_at - time.monotonic()))
            if readable:
                self._receive()
            if self._requests and time.monotonic() >= self._next_step_at:
                self._step()
            if time.monotonic() >= self._next_heartbeat_at:
                self._heartbeat()

    # ---- in

    def _receive(self) -> None:
        piece = self._connection.recv(1 << 18)
        if not piece:
            sys.exit(1)
        self._received += piece
        while len(self._received) >= FRAME_HEADER.size:
            end = FRAME_HEADER.size + frame_length(bytes(self._received[: FRAME_HEADER.size]))
            if len(self._received) < end:
                return
            message = decode_to_worker(bytes(self._received[FRAME_HEADER.size : end]))
            del self._received[:end]
            self._handle(message)

    def _handle(self, message: ToWorker) -> None:
        match message:
            case Load():
                self._load(message)
            case Submit():
                self._take(message)
            case Embed() | Score() | Transcribe() | Align() | Listen() | Draw():
                text = "the model is not of a kind that can do this"
                self._send(Failed(request_id=message.request_id, code=FailureCode.INVALID, message=text))
            case AudioChunk() | Trace() | ClearState():
                pass  # of a task that was refused
            case Abort(request_id=request_id):
                self._requests.pop(request_id, None)
            case Shutdown():
                if self._model.exit_on_shutdown:
                    sys.exit(0)
            case LoadAdapter():
                self._load_adapter(message)
            case UnloadAdapter(adapter=adapter):
                self._adapters.discard(adapter)
            case Sleep():
                self._sleep()
            case Wake():
                for tenth in range(10):
                    self._send(LoadProgress(stage="weights", fraction=tenth / 10))
                    time.sleep(self._model.wake_s / 10)
                self._send(Awake(load_ms={"weights": 1000 * self._model.wake_s}))
            case _:
                assert_never(message)

    def _take(self, submit: Submit) -> None:
        if submit.adapter and submit.adapter not in self._adapters:
            message = f"there is no adapter {submit.adapter!r}"
            self._send(Failed(request_id=submit.request_id, code=FailureCode.NOT_FOUND, message=message))
            return
        if not self._requests:
            self._next_step_at = time.monotonic() + self._model.step_ms / 1000
        self._requests[submit.request_id] = Request(submit)

    def _load_adapter(self, message: LoadAdapter) -> None:
        directory = Path(message.directory)
        if (directory / "hang").exists():
            return
        for name, code, reason in (
            ("refuse", FailureCode.INVALID, "not of this base model"),
            ("fail", FailureCode.INTERNAL, "RuntimeError while loading"),
        ):
            if (directory / name).exists():
                self._send(AdapterFailed(adapter=message.adapter, code=code, message=reason))
                return
        self._adapters.add(message.adapter)
        self._send(AdapterLoaded(adapter=message.adapter))

    def _sleep(self) -> None:
        assert not self._requests, "asked to sleep with requests"
        match self._model.sleep:
            case "succeed":
                self._send(Asleep(host_bytes=self._model.host_bytes))
            case "exit":
                sys.exit(self._model.exit_status)
            case "hang":
                time.sleep(FOREVER_S)
            case _:
                assert_never(self._model.sleep)

    def _load(self, load: Load) -> None:
        self._model = FakeModel.read(Path(load.model_dir))
        for line in self._model.log_lines:
            print(line, file=sys.stderr, flush=True)
        for tenth in range(10):
            self._send(LoadProgress(stage="weights", fraction=tenth / 10))
            time.sleep(self._model.load_s / 10)
        match self._model.load:
            case "succeed":
                assert isinstance(load.settings, LlmSettings)
                context = load.settings.max_context_length
                self._send(
                    Loaded(
                        footprint_bytes=self._model.footprint_bytes,
                        num_blocks=NUM_BLOCKS,
                        block_size=32,
                        max_context_length=context,
                        load_ms={},
                    )
                )
            case "refuse":
                self._send(LoadFailed(code=FailureCode.INVALID, message="the fake model is not to be served"))
            case "fail":
                self._send(LoadFailed(code=FailureCode.INTERNAL, message="RuntimeError while loading"))
            case "exit":
                sys.exit(self._model.exit_status)
            case "hang":
                time.sleep(FOREVER_S)
            case _:
                assert_never(self._model.load)

    # ---- out

    def _step(self) -> None:
        now = time.monotonic()
        self._next_step_at = now + self._model.step_ms / 1000
        self._num_steps += 1
        deltas: list[Delta] = []
        for request in list(self._requests.values())[: self._model.max_num_running]:
            if now < request.starts_at:
                continue
            act = request.script.act if request.script.at == request.position else None
            if act is not None:
                self._misbehave(act, request)
            if request.submit.request_id in self._requests:
                deltas += request.step(is_environment_asked=act is Act.ENVIRONMENT)
                if request.is_finished:
                    del self._requests[request.submit.request_id]
        if deltas:
            self._send(Outputs(deltas=deltas))

    def _misbehave(self, act: Act, request: Request) -> None:
        match act:
            case Act.EXIT:
                sys.exit(self._model.exit_status)
            case Act.SEGV:
                os.kill(os.getpid(), signal.SIGSEGV)
            case Act.HANG:
                time.sleep(FOREVER_S)
            case Act.STAND_STILL:
                self._stand_still()
            case Act.FALL_SILENT:
                self._next_heartbeat_at = time.monotonic() + FOREVER_S
            case Act.CLOSE:
                self._connection.close()
                time.sleep(FOREVER_S)
            case Act.GARBAGE:
                self._connection.sendall(FRAME_HEADER.pack(5) + b"\xff\x00\xff\x00\xff")
            case Act.OVERSIZE:
                self._connection.sendall(FRAME_HEADER.pack(FRAME_BYTES_MAX + 1))
            case Act.UNKNOWN_REQUEST:
                self._send(Outputs(deltas=[Delta(request_id="nobody's", text="?")]))
            case Act.REPEAT_FINISH:
                finish = Delta(request_id=request.submit.request_id, finish_reason="stop")
                self._send(Outputs(deltas=[finish, finish]))
            case Act.FAIL:
                self._requests.pop(request.submit.request_id)
                failed = Failed(request_id=request.submit.request_id, code=FailureCode.INVALID, message="as asked")
                self._send(failed)
            case Act.ENVIRONMENT:
                pass  # the token itself is different
            case _:
                assert_never(act)

    def _stand_still(self) -> NoReturn:
        while True:
            self._heartbeat()
            time.sleep(self._model.heartbeat_s)

    def _heartbeat(self) -> None:
        self._next_heartbeat_at = time.monotonic() + self._model.heartbeat_s
        num_running = min(len(self._requests), self._model.max_num_running)
        self._send(
            Heartbeat(
                num_steps=self._num_steps,
                is_busy=bool(self._requests),
                num_running=num_running,
                num_waiting=len(self._requests) - num_running,
                num_free_blocks=NUM_BLOCKS - num_running,
                num_blocks=NUM_BLOCKS,
            )
        )

    def _send(self, message: FromWorker) -> None:
        self._connection.sendall(encode_frame(message))


def _text_of(submit: Submit) -> str:
    match submit.prompt:
        case TextPrompt(text=text):
            return text
        case ChatPrompt(messages=messages):
            content = messages[-1].content or ""
            return content if isinstance(content, str) else "".join(getattr(part, "text", "") for part in content)
        case TokenPrompt(token_ids=token_ids):
            return " ".join(map(str, token_ids))


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--kind", "--socket"):
        parser.add_argument(name, required=True)
    for name in ("--deployment", "--replica"):
        parser.add_argument(name)
    parser.add_argument("--parent-pid", type=int, required=True)
    options = parser.parse_args()
    die_with_parent(options.parent_pid)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(options.socket)
    FakeWorker(connection, is_spare=options.kind == "spare").run()


if __name__ == "__main__":
    main()
