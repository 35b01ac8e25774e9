"""A runner that lets nobody wait for an image but its own request.

Rows whose images are not encoded yet are held back, as if they had not been scheduled, while the others are computed;
each step carries the encoding on for a moment, so that images have no part in the step's token budget.
"""

from collections.abc import Sequence

from runtime.llm.engine import LaunchedStep, Runner
from runtime.llm.request import Batch, PromptImage, RowResult, ScheduledRequest
from runtime.llm.vision.features import EncodingFailed, ImageFeatures

ENCODING_S_PER_STEP = 0.1
"""A step may take this much longer, or one layer of the encoder, whichever is more."""


class VisionRunner:
    """`runner` computes what is ready."""

    def __init__(self, runner: Runner, features: ImageFeatures) -> None:
        self._runner = runner
        self._features = features

    def launch(self, batch: Batch) -> "VisionStep":
        """Have the KV of every row written that is ready."""
        needed = [images_in(row) for row in batch.scheduled]
        failure = self._encode(needed)
        is_ready = [self._features.are_ready(images) for images in needed]
        rows = [row for row, is_row_ready in zip(batch.scheduled, is_ready, strict=True) if is_row_ready]
        held_back = [
            None if is_row_ready else _held_back(images, failure)
            for is_row_ready, images in zip(is_ready, needed, strict=True)
        ]
        return VisionStep(self._runner.launch(Batch(rows)) if rows else None, held_back)

    def _encode(self, needed: list[Sequence[PromptImage]]) -> EncodingFailed | None:
        """For the first row that waits."""
        waiting = next((images for images in needed if not self._features.are_ready(images)), None)
        if waiting is not None:
            try:
                self._features.advance(waiting, ENCODING_S_PER_STEP)
            except EncodingFailed as failure:
                return failure
        return None


class VisionStep:
    """`held_back`: by row of the batch, what it has instead of being computed; None: `ready` computes it."""

    def __init__(self, ready: LaunchedStep | None, held_back: list[RowResult | None]) -> None:
        self._ready = ready
        self._held_back = held_back

    def sample(self) -> None:
        """Have the tokens of the rows that are ready chosen."""
        if self._ready is not None:
            self._ready.sample()

    def results(self) -> list[RowResult]:
        """Wait for the step; a result for each row, in the batch's order."""
        computed = iter([] if self._ready is None else self._ready.results())
        return [next(computed) if result is None else result for result in self._held_back]


def _held_back(images: Sequence[PromptImage], failure: EncodingFailed | None) -> RowResult:
    if failure is not None and any(image.digest == failure.digest for image in images):
        return RowResult(failure=failure)
    return RowResult(is_computed=False)


def images_in(row: ScheduledRequest) -> Sequence[PromptImage]:
    """Those of whose placeholder tokens some are computed."""
    start = row.start
    stop = start + row.num_tokens
    return [image for image in row.request.images if image.start < stop and start < image.start + image.num_tokens]
