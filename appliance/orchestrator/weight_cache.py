"""The weight files of recently used models, kept in the host's memory for the next load of them.

Owns which models' files are kept, least recently used first to go, and their entry in the ledger. It takes memory that
is free and gives it back as soon as somebody asks. It only ever reads files; a load works the same without it.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.domain import Deployment
from appliance.names import parse_name
from appliance.orchestrator.held_file import HeldFile, Lock, lock_memory
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.quiet import Quiet
from appliance.store import deployments, models
from appliance.store.database import Database
from models.info import AnyServedInfo

logger = logging.getLogger(__name__)

OWNER = "weights in host memory"
"""In the ledger."""


class Weights(msgspec.Struct, frozen=True):
    model: str
    """Full name."""
    paths: tuple[Path, ...]
    num_bytes: int

    @classmethod
    def of(cls, model: str, directory: Path, info: AnyServedInfo) -> "Weights":
        files = [name for name in info.file_sha256 if name.endswith((".safetensors", ".bin"))]
        return cls(model, tuple(directory / name for name in files), info.weight_bytes)


class WeightsView(msgspec.Struct, frozen=True, kw_only=True):
    """For displays."""

    model: str
    num_bytes: int
    is_locked: bool
    """False: the kernel does not let us, and may drop them when it is short of memory."""


class _Kept:
    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.files: list[HeldFile] = []
        self.is_unwanted = False
        """Read by the thread that reads its files."""
        self.is_read = False


class WeightCache:
    """Takes of the ledger's host memory what nobody else has."""

    def __init__(self, ledger: Ledger, quiet: Quiet, lock: Lock = lock_memory) -> None:
        self._ledger = ledger
        self._quiet = quiet
        self._lock = lock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        """By model, least recently used first."""
        self._reading: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        self._has_complained = False

    @property
    def held_bytes(self) -> int:
        return sum(kept.weights.num_bytes for kept in self._kept.values())

    def views(self) -> list[WeightsView]:
        """Most recently used first."""
        return [
            WeightsView(
                model=kept.weights.model,
                num_bytes=kept.weights.num_bytes,
                is_locked=kept.is_read and all(file.is_locked for file in kept.files),
            )
            for kept in reversed(self._kept.values())
        ]

    def keep(self, weights: Weights) -> None:
        """This model was used just now: read its files and hold them, at the cost of those used longest ago.

        Returns at once; nothing is read while a replica loads.
        """
        known = self._kept.get(weights.model)
        if known is not None and known.weights == weights:
            self._kept.move_to_end(weights.model)
            return
        self.forget(weights.model)
        room = self._room()
        if weights.num_bytes <= room:
            self.shrink_to(room - weights.num_bytes)
            self._take_up(weights)

    def prefetch(self, recent: Sequence[Weights]) -> None:
        """Hold what has room, the most recently used first, and drop nothing for it."""
        for weights in recent:
            if weights.model not in self._kept and weights.num_bytes <= self._ledger.host_free_bytes():
                self._take_up(weights)
                self._kept.move_to_end(weights.model, last=False)

    def forget(self, model: str) -> None:
        """Its files are gone or have changed."""
        if (kept := self._kept.pop(model, None)) is not None:
            self._drop(kept)

    def shrink_to(self, num_bytes: int) -> None:
        """Give back all beyond so many bytes, at once."""
        while self.held_bytes > num_bytes:
            _, least_recent = self._kept.popitem(last=False)
            self._drop(least_recent)

    async def close(self) -> None:
        self.shrink_to(0)
        await asyncio.gather(*self._reading)

    # ---- one model's files

    def _take_up(self, weights: Weights) -> None:
        kept = self._kept[weights.model] = _Kept(weights)
        self._account()
        task = asyncio.create_task(self._read(kept))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, kept: _Kept) -> None:
        async with self._one_at_a_time:
            try:
                await asyncio.to_thread(self._hold, kept)
            except OSError as error:
                logger.warning("the weights of %s are not kept in memory: %s", kept.weights.model, error.strerror)
                if self._kept.get(kept.weights.model) is kept:
                    self.forget(kept.weights.model)
        if kept.is_unwanted:
            _close(kept)
            return
        kept.is_read = True
        is_locked = all(file.is_locked for file in kept.files)
        logger.info("%s: %d bytes of weights are %s", kept.weights.model, kept.weights.num_bytes, _manner(is_locked))
        if not is_locked and not self._has_complained:
            self._has_complained = True
            logger.warning("the kernel refuses to lock weights in memory and may drop them: raise RLIMIT_MEMLOCK")

    def _hold(self, kept: _Kept) -> None:
        """In a thread."""
        for path in kept.weights.paths:
            if kept.is_unwanted:
                return
            kept.files.append(
                HeldFile(
                    path,
                    must_wait=lambda: self._quiet.is_disturbed,
                    is_unwanted=lambda: kept.is_unwanted,
                    lock=self._lock,
                )
            )

    def _drop(self, kept: _Kept) -> None:
        kept.is_unwanted = True
        if kept.is_read:
            _close(kept)  # else whoever reads them does it
        self._account()

    # ---- the ledger

    def _room(self) -> int:
        """For all that is kept together."""
        return self._ledger.host_free_bytes() + self.held_bytes

    def _account(self) -> None:
        if self.held_bytes:
            self._ledger.reserve_host(OWNER, self.held_bytes)
        else:
            self._ledger.release_host(OWNER)


async def recently_used(database: Database, models_dir: Path) -> list[Weights]:
    """What deployments were last asked for, the most recent first; for `prefetch` at the daemon's start."""
    found: dict[str, Weights] = {}
    async with database.reader() as db:
        for deployment in sorted(await deployments.list_active(db), key=_last_used_at, reverse=True):
            name = parse_name(deployment.base_model, "models", "model")
            model = await models.get(db, name.account_id, name.resource_id)
            checkpoint = None if model is None else model.checkpoint(deployment.precision)
            if model is not None and checkpoint is not None:
                directory = models_dir / checkpoint.directory
                found.setdefault(model.name, Weights.of(model.name, directory, checkpoint.info))
    return list(found.values())


def _last_used_at(deployment: Deployment) -> float:
    return deployment.last_used_at or deployment.created_at


def _manner(is_locked: bool) -> str:
    return "locked in memory" if is_locked else "in the page cache"


def _close(kept: _Kept) -> None:
    for file in kept.files:
        file.close()
