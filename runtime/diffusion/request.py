"""What the frontend hands to the engine, and what the engine gives back. No torch: nothing here is on a device."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Rows, columns, red green blue."""


class ControlPicture(NamedTuple):
    """A ControlNet and what it follows."""

    name: str
    pixels: Pixels
    scale: float
    start: float
    end: float


class BatchKey(NamedTuple):
    """Pictures that have this in common can be computed side by side, at whatever step each of them is."""

    width: int
    height: int
    control_net: str


@dataclass(eq=False, kw_only=True)
class DrawRequest:
    """One client call, checked; its pictures are made one for each seed."""

    request_id: str
    tenant: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_steps: int
    guidance_scale: float
    seeds: list[int]
    scheduler: str = ""
    image: Pixels | None = None
    strength: float = 1.0
    mask: Pixels | None = None
    control: ControlPicture | None = None
    adapter: Any = None
    """A LoRA addon, as `adapters.py` reads it; None: the model itself."""
    adapter_scale: float = 1.0
    checks_safety: bool = False
    reports_progress: bool = False

    encoded: Any = field(default=None, init=False)
    """The prompt as the model sees it: computed with the first picture, used by all."""

    @property
    def batch_key(self) -> BatchKey:
        return BatchKey(self.width, self.height, self.control.name if self.control else "")

    @property
    def num_pixels(self) -> int:
        """Of one picture."""
        return self.width * self.height

    @property
    def num_bytes(self) -> int:
        """Of host memory that it takes while it waits."""
        pictures = (self.image, self.mask, self.control.pixels if self.control else None)
        return len(self.prompt) + len(self.negative_prompt) + sum(p.nbytes for p in pictures if p is not None)


@dataclass(frozen=True, eq=False, kw_only=True)
class Finished:
    """A picture."""

    request_id: str
    index: int
    """Of the request's seeds."""
    pixels: Pixels
    is_filtered: bool
    is_last: bool


class Progressed(NamedTuple):
    request_id: str
    num_steps_done: int
    """Of all its pictures together; so is the next."""
    num_steps: int


class Failure(NamedTuple):
    """The request has ended; why is in the worker's log."""

    request_id: str
    is_out_of_memory: bool = False


DiffusionOutput = Finished | Progressed | Failure
