from collections.abc import Callable, Sequence

import numpy as np
import pytest

from runtime.embedding.long_step import LongStep
from runtime.embedding.request import EmbeddingRequest, Row, RowOutput, Text

ROWS = [Row(EmbeddingRequest("r", "t", [Text([1])]), 0)]


def test_every_layer_is_a_sign_of_life_and_the_last_one_brings_the_result() -> None:
    output = RowOutput("r", 0, np.zeros(1, dtype=np.float32))

    def compute(rows: Sequence[Row], note_layer: Callable[[], None]) -> list[RowOutput]:
        for _ in range(3):
            note_layer()
        return [output]

    step = LongStep(compute, ROWS)
    assert [step.advance() for _ in range(4)] == [None, None, None, [output]]


def test_a_broken_device_is_reported_to_whoever_waits() -> None:
    def compute(rows: Sequence[Row], note_layer: Callable[[], None]) -> list[RowOutput]:
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        LongStep(compute, ROWS).advance()
