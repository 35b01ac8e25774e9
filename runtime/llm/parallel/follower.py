"""A process that computes its part of every forward, as rank 0 says: it knows no request and draws no token.

It answers whatever is no forward, packs weights while nobody asks for anything, and ends with the channel.
"""

import logging
from array import array
from pathlib import Path
from typing import assert_never

import torch

from runtime.device_memory import DeviceMemory
from runtime.engine import LoadRefused
from runtime.llm.forward import Forward, TokenRow
from runtime.llm.kernel_choice import choose_kernels
from runtime.llm.linear import Packing
from runtime.llm.loader import build_skeleton
from runtime.llm.parallel.collectives import join
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.messages import (
    Answer,
    Channel,
    Compute,
    ComputeLogits,
    Done,
    FallAsleep,
    Join,
    LoadPart,
    Measure,
    Refused,
    WakeUp,
)
from runtime.llm.parallel.part import load_part
from runtime.memory import footprint_bytes
from runtime.message import FailureCode
from runtime.torch_device import find_device

logger = logging.getLogger(__name__)

_PACKING_S = 0.01


class Follower:
    def __init__(self, channel: Channel, share: Share) -> None:
        self._channel = channel
        self._share = share
        self._packing = Packing([])

    def run(self) -> None:
        """Until rank 0 is gone, which raises Gone."""
        while True:
            while self._packing and not self._channel.has_message():
                self._packing.advance(_PACKING_S)
            match self._channel.order():
                case Compute(rows=rows, logit_rows=logit_rows):
                    self._computed = self._forward.compute(
                        [TokenRow(row.token_ids, row.start, array("i", row.block_ids)) for row in rows], logit_rows
                    )
                case ComputeLogits(positions=positions):
                    self._computed.logits(positions)
                case LoadPart() as load:
                    self._channel.send(self._load(load))
                case Join(rendezvous=rendezvous):
                    join(Path(rendezvous), self._share, self._device)
                    self._channel.send(Done())
                case Measure():
                    held = footprint_bytes(self._device, self._attention.size_bytes)
                    self._channel.send(Done(num_bytes=held))
                case FallAsleep():
                    self._channel.send(Done(num_bytes=self._memory.sleep()))
                case WakeUp():
                    self._memory.wake()
                    self._channel.send(Done())
                case order:
                    assert_never(order)

    def _load(self, load: LoadPart) -> Answer:
        try:
            self._take_up(load)
        except LoadRefused as refusal:
            return Refused(code=refusal.code, message=refusal.message)
        except (MemoryError, torch.OutOfMemoryError):
            message = f"{load.settings.device} ran out of memory while its part of the weights was loaded"
            return Refused(code=FailureCode.OVERLOADED, message=message)
        return Done()

    def _take_up(self, load: LoadPart) -> None:
        settings = load.settings
        self._device = find_device(settings.device, settings.dtype)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # Triton launches where torch would
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        kernels = choose_kernels(self._device, getattr(torch, settings.dtype), are_enabled=settings.enable_kernels)
        directory = Path(load.model_dir)
        skeleton = build_skeleton(directory, load.info, settings.max_context_length)
        part = load_part(skeleton, directory, load.info, settings, self._share, kernels)
        self._packing = part.packing
        self._attention = part.reserve_attention(settings, load.num_blocks)
        self._memory = DeviceMemory(self._device, [self._attention])
        self._forward = Forward(part.model, self._attention)
