"""Rank 0's side: the processes that follow it, from their start to their end, and what they are told.

A worker whose follower dies ends at once: it may be waiting, inside a library, for what will never come.
"""

import atexit
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch

from models.info import ModelInfo
from runtime.engine import LoadRefused, Memory
from runtime.llm.forward import TokenRow
from runtime.llm.parallel.collectives import join, leave
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.messages import (
    Channel,
    Compute,
    ComputeLogits,
    Done,
    FallAsleep,
    Join,
    LoadPart,
    Measure,
    Order,
    Refused,
    Row,
    WakeUp,
)
from runtime.settings import LlmSettings

logger = logging.getLogger(__name__)

_END_TIMEOUT_S = 5.0


class Ranks:
    """The other processes of a model on `size` devices. For one thread, which lasts: the kernel ends them with it."""

    def __init__(self, size: int) -> None:
        self.share = Share(0, size)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._channels: list[Channel] = []
        self._directory = TemporaryDirectory(prefix="hearth-ranks-")
        self._has_joined = False
        for rank in range(1, size):
            self._start(rank)
        self._closing = threading.Event()
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()
        atexit.register(self.close)

    def load(self, directory: Path, info: ModelInfo, settings: LlmSettings, num_blocks: int) -> None:
        """Begin; rank 0 loads its own part meanwhile."""
        for rank, channel in enumerate(self._channels, start=1):
            device = settings.device if settings.device == "cpu" else f"cuda:{rank}"
            own = msgspec.structs.replace(settings, device=device)
            channel.send(LoadPart(model_dir=str(directory), info=info, settings=own, num_blocks=num_blocks))

    def finish_load(self, device: torch.device) -> None:
        """Blocks until all have their parts and have met. Raises LoadRefused."""
        self._answers()
        if not self._has_joined:
            rendezvous = Path(self._directory.name) / "rendezvous"
            self._tell(Join(rendezvous=str(rendezvous)))
            join(rendezvous, self.share, device)
            self._answers()
            self._has_joined = True

    def compute(self, rows: Sequence[TokenRow], logit_rows: Sequence[int]) -> None:
        """They begin the forward that rank 0 is about to compute."""
        assert not any(row.adapter or row.images for row in rows), "those are refused when a model is loaded"
        told = [Row(token_ids=[*row.token_ids], start=row.start, block_ids=[*row.block_ids]) for row in rows]
        self._tell(Compute(rows=told, logit_rows=[*logit_rows]))

    def logits(self, positions: list[int]) -> None:
        """The same for more logits of the last forward."""
        self._tell(ComputeLogits(positions=positions))

    def most_held(self) -> int:
        """Bytes of its device that the largest of them holds."""
        self._tell(Measure())
        return max(self._answers())

    def sleep(self) -> None:
        """Begin; `finish` ends it."""
        self._tell(FallAsleep())

    def wake(self) -> None:
        """Begin; `finish` ends it."""
        self._tell(WakeUp())

    def finish(self) -> int:
        """Of what was begun; the sum of what they answered."""
        return sum(self._answers())

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        atexit.unregister(self.close)
        for channel in self._channels:
            channel.close()
        for process in self._processes:
            try:
                process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._has_joined:
            leave()
        self._directory.cleanup()

    def _start(self, rank: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            command = [sys.executable, "-m", "runtime.llm.parallel", "--rank", str(rank)]
            command += ["--size", str(self.share.size), "--channel", str(descriptor), "--parent-pid", str(os.getpid())]
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[descriptor]))
        self._channels.append(Channel(ours))

    def _watch(self) -> None:
        """A thread of its own, since rank 0 may be waiting for the dead."""
        poller = select.poll()
        descriptors = [os.pidfd_open(process.pid) for process in self._processes]
        for descriptor in descriptors:
            poller.register(descriptor, select.POLLIN)
        poller.poll()
        if not self._closing.is_set():
            logger.error("a process that computes a part of the model has ended, so this one ends, too")
            os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)

    def _tell(self, order: Order) -> None:
        for channel in self._channels:
            channel.send(order)

    def _answers(self) -> list[int]:
        """One from each, all of them taken even if one refuses."""
        answers = [channel.answer() for channel in self._channels]
        for answer in answers:
            if isinstance(answer, Refused):
                raise LoadRefused(answer.message, answer.code)
        return [answer.num_bytes for answer in answers if isinstance(answer, Done)]


class SharedMemory:
    """The device memory of all ranks; implements `runtime.engine.Memory`."""

    def __init__(self, own: Memory, ranks: Ranks) -> None:
        self._own = own
        self._ranks = ranks

    def sleep(self) -> int:
        self._ranks.sleep()
        return self._own.sleep() + self._ranks.finish()

    def wake(self) -> dict[str, float]:
        self._ranks.wake()
        load_ms = self._own.wake()
        self._ranks.finish()
        return load_ms
