"""What images look like to the decoder, kept for whoever sends the same one again.

Owns the encoder and the memory of its outputs, least recently used first to go. Encoding goes on a layer at a time, so
that a large image on a slow device delays nobody else's tokens by more than the caller allows.
"""

from collections import OrderedDict
from collections.abc import Generator, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol

import torch

from runtime.llm.request import PromptImage

Encoding = Generator[None, None, torch.Tensor]
"""Pauses between layers, and returns [tokens, hidden size]."""


class Encoder(Protocol):
    def encode(self, image: PromptImage) -> Encoding: ...


class EncodingFailed(Exception):
    """This image cannot be shown to the model; others can."""

    def __init__(self, image: PromptImage) -> None:
        super().__init__("an image could not be encoded")
        self.digest = image.digest


class _Running(NamedTuple):
    image: PromptImage
    encoding: Encoding


class ImageFeatures:
    """`capacity_bytes` may be exceeded by what one row of a batch needs."""

    def __init__(self, encoder: Encoder, capacity_bytes: int) -> None:
        self._encoder = encoder
        self._capacity_bytes = capacity_bytes
        self._size_bytes = 0
        self._rows: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._running: _Running | None = None
        """Finished before another is begun, whoever still wants it."""
        self.num_encoded = 0
        """Images, since the start."""

    def are_ready(self, images: Sequence[PromptImage]) -> bool:
        return all(image.digest in self._rows for image in images)

    def advance(self, needed: Sequence[PromptImage], seconds: float) -> None:
        """Encode what is missing of these for about this long; one layer at least. Raises EncodingFailed."""
        deadline = perf_counter() + seconds
        for image in needed:
            if image.digest in self._rows:
                self._rows.move_to_end(image.digest)
        with torch.inference_mode():
            while (running := self._next(needed)) is not None:
                self._compute_layer(running, needed)
                if perf_counter() >= deadline:
                    return

    def rows(self, image: PromptImage) -> torch.Tensor:
        """[tokens, hidden size], of an image that is ready."""
        self._rows.move_to_end(image.digest)
        return self._rows[image.digest]

    def clear(self) -> None:
        """Forget every image, one that is being encoded too."""
        self._rows.clear()
        self._size_bytes = 0
        self._running = None

    def _next(self, needed: Sequence[PromptImage]) -> _Running | None:
        if self._running is None:
            missing = next((image for image in needed if image.digest not in self._rows), None)
            if missing is not None:
                self._running = _Running(missing, self._encoder.encode(missing))
        return self._running

    def _compute_layer(self, running: _Running, needed: Sequence[PromptImage]) -> None:
        try:
            next(running.encoding)
        except StopIteration as finished:
            self._running = None
            self._keep(running.image, finished.value, {image.digest for image in needed})
        except Exception as error:  # above all that the device is out of memory
            self._running = None
            raise EncodingFailed(running.image) from error

    def _keep(self, image: PromptImage, rows: torch.Tensor, needed: set[bytes]) -> None:
        assert rows.shape[0] == image.num_tokens, "the encoder and the prompt count differently"
        self.num_encoded += 1
        self._rows[image.digest] = rows
        self._size_bytes += rows.nbytes
        for digest in [digest for digest in self._rows if digest not in needed]:
            if self._size_bytes <= self._capacity_bytes:
                break
            self._size_bytes -= self._rows.pop(digest).nbytes
