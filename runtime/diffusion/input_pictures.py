"""The pictures that come with a request: decoded and brought to size in a process that can be killed.

Runs on the socket thread, which is everybody's: the pictures of one request have one deadline together.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from models.image_decoding import DECODE_TIMEOUT_S, ImageDecoder, ImageRefused
from models.info import AreaSize, DiffusionInfo, FixedSize
from runtime.diffusion.limits import EDGE_MIN, refuse, size_multiple
from runtime.diffusion.request import Pixels
from runtime.tasks.images import Draw

REQUEST_TIMEOUT_S = 5.0
"""For all pictures of one request."""


class InputPictures(NamedTuple):
    width: int
    """Of the picture that will be made, and of all these."""
    height: int
    image: Pixels | None
    mask: Pixels | None
    control: Pixels | None


class InputDecoder:
    """For one model and one thread, which outlasts it."""

    def __init__(self, info: DiffusionInfo, max_pixels: int) -> None:
        self._default_size = info.default_size
        self._own_size = AreaSize(min_pixels=EDGE_MIN**2, max_pixels=max_pixels, multiple=size_multiple(info))
        self._decoder = ImageDecoder()

    def close(self) -> None:
        self._decoder.close()

    def decode(self, draw: Draw) -> InputPictures:
        """Raises RequestRefused naming the picture."""
        decode = self._within(time.monotonic() + REQUEST_TIMEOUT_S)
        width, height = draw.width or self._default_size, draw.height or self._default_size
        image = None
        if draw.image:
            is_sized = draw.width is not None
            image = decode("image", draw.image, FixedSize(height=height, width=width) if is_sized else self._own_size)
            height, width = image.shape[:2]
            if min(height, width) < EDGE_MIN:
                refuse(f"image: is made {width} by {height} pixels; an edge has at least {EDGE_MIN}", "image")
        size = FixedSize(height=height, width=width)
        return InputPictures(
            width=width,
            height=height,
            image=image,
            mask=decode("mask", draw.mask, size) if draw.mask else None,
            control=decode("control_image", draw.control.image, size) if draw.control else None,
        )

    def _within(self, deadline: float) -> "Callable[[str, bytes, FixedSize | AreaSize], Pixels]":
        def decode(name: str, data: bytes, size: FixedSize | AreaSize) -> Pixels:
            timeout_s = min(DECODE_TIMEOUT_S, deadline - time.monotonic())
            if timeout_s <= 0:
                refuse(f"{name}: decoding all pictures takes longer than {REQUEST_TIMEOUT_S:g} s", name)
            try:
                height, width, rgb = self._decoder.decode(data, timeout_s, size)
            except ImageRefused as refusal:
                refuse(f"{name}: {refusal}", name)
            return np.frombuffer(rgb, dtype=np.uint8).reshape(height, width, 3)

        return decode
