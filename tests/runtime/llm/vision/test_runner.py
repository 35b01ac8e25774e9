from collections.abc import Sequence

import numpy as np
import pytest
import torch

from runtime.llm.engine import LlmEngine
from runtime.llm.request import (
    Batch,
    Generation,
    PromptImage,
    Request,
    RequestFailed,
    RowResult,
    SampledToken,
    ScheduledRequest,
)
from runtime.llm.vision import runner as vision_runner
from runtime.llm.vision.features import Encoder, Encoding, EncodingFailed, ImageFeatures
from runtime.llm.vision.runner import VisionRunner, images_in
from tests.fakes.scripted_runner import ScriptedRunner, make_request

BLOCK_SIZE = 4


class SlowEncoder:
    """One layer, and a pause of as many steps as it is told."""

    def __init__(self, num_pauses: int) -> None:
        self._num_pauses = num_pauses

    def encode(self, image: PromptImage) -> Encoding:
        for _ in range(self._num_pauses):
            yield
        return torch.zeros(image.num_tokens, 4)


class BrokenEncoder:
    def encode(self, image: PromptImage) -> Encoding:
        yield
        raise MemoryError


class NotingRunner:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def launch(self, batch: Batch) -> "NotedStep":
        self.batches.append([row.request.request_id for row in batch.scheduled])
        return NotedStep([RowResult([SampledToken(len(self.batches), None, [])]) for _ in batch.scheduled])


class NotedStep:
    def __init__(self, results: list[RowResult]) -> None:
        self._results: list[RowResult] = []
        self._sampled = results

    def sample(self) -> None:
        self._results = self._sampled

    def results(self) -> list[RowResult]:
        return self._results


def execute(runner: VisionRunner, batch: Batch) -> list[RowResult]:
    step = runner.launch(batch)
    step.sample()
    return step.results()


def image(start: int, num_tokens: int, name: bytes = b"A") -> PromptImage:
    return PromptImage(start, num_tokens, name, np.zeros((1, 1, 3), dtype=np.uint8), (1, 1, 1))


def row(name: str, images: Sequence[PromptImage], num_tokens: int = 10) -> ScheduledRequest:
    request = make_request([5] * 20, request_id=name)
    request.images = images
    return ScheduledRequest(request, num_tokens, False)


def test_a_row_waits_for_its_image_and_nobody_else_does() -> None:
    runner = NotingRunner()
    vision = VisionRunner(runner, ImageFeatures(SlowEncoder(10_000_000), 1000))
    batch = Batch([row("text", []), row("image", [image(2, 4)]), row("later", [image(12, 4)])])
    results = execute(vision, batch)
    assert [result.is_computed for result in results] == [True, False, True]
    assert runner.batches == [["text", "later"]]


def test_once_it_is_encoded_the_row_is_computed_with_the_others_in_their_order() -> None:
    runner = NotingRunner()
    vision = VisionRunner(runner, ImageFeatures(SlowEncoder(1), 1000))
    results = execute(vision, Batch([row("a", [image(2, 4)]), row("b", [])]))
    assert [result.is_computed for result in results] == [True, True]
    assert runner.batches == [["a", "b"]]


def test_when_everybody_waits_nothing_is_run() -> None:
    runner = NotingRunner()
    vision = VisionRunner(runner, ImageFeatures(SlowEncoder(10_000_000), 1000))
    [result] = execute(vision, Batch([row("a", [image(2, 4)])]))
    assert result == RowResult(is_computed=False)
    assert runner.batches == []


def test_a_failure_is_of_the_rows_that_show_the_image() -> None:
    runner = NotingRunner()
    vision = VisionRunner(runner, ImageFeatures(BrokenEncoder(), 1000))
    rows = [row("a", [image(2, 4)]), row("b", []), row("c", [image(2, 4, b"B")]), row("d", [image(3, 4)])]
    a, b, c, d = execute(vision, Batch(rows))
    assert isinstance(a.failure, EncodingFailed)
    assert isinstance(d.failure, EncodingFailed)
    assert (b.failure, b.is_computed) == (None, True)
    assert (c.failure, c.is_computed) == (None, False)


@pytest.mark.parametrize("look_ahead", [False, True])
def test_text_is_generated_while_an_image_is_encoded_step_by_step(
    monkeypatch: pytest.MonkeyPatch, look_ahead: bool
) -> None:
    monkeypatch.setattr(vision_runner, "ENCODING_S_PER_STEP", 0.0)
    engine = engine_over(SlowEncoder(30), look_ahead=look_ahead)
    assert last_outputs(engine, with_image("image"), make_request([6] * 20, request_id="text")) == ["text", "image"]


@pytest.mark.parametrize("look_ahead", [False, True])
def test_an_image_that_cannot_be_encoded_fails_its_request_alone(look_ahead: bool) -> None:
    engine = engine_over(BrokenEncoder(), look_ahead=look_ahead)
    assert last_outputs(engine, with_image("image"), make_request([6] * 20, request_id="text")) == ["image", "text"]


def engine_over(encoder: Encoder, *, look_ahead: bool = False) -> LlmEngine:
    scripted = ScriptedRunner(50, BLOCK_SIZE, max_num_requests=4, max_batch_tokens=64)
    return LlmEngine(
        VisionRunner(scripted, ImageFeatures(encoder, 1000)),
        num_blocks=50,
        block_size=BLOCK_SIZE,
        max_num_requests=4,
        max_num_waiting=4,
        max_num_waiting_tokens=1000,
        max_batch_tokens=64,
        enable_prefix_cache=True,
        cache_root=b"",
        look_ahead=look_ahead,
    )


def with_image(name: str) -> Request:
    request = make_request([5] * 20, request_id=name)
    request.images = [image(4, 8)]
    return request


def last_outputs(engine: LlmEngine, *requests: Request) -> list[str]:
    """Request ids in the order in which they ended, well or not."""
    for request in requests:
        engine.add(Generation(request.request_id, [request]))
    ended: list[str] = []
    while engine.has_work():
        for output in engine.step():
            if isinstance(output, RequestFailed) or output.finish_reason is not None:
                ended.append(output.request_id)
        engine.check_integrity()
    return ended


def test_an_image_is_needed_by_the_rows_that_hold_a_part_of_it() -> None:
    scheduled = row("a", [image(0, 3, b"A"), image(9, 4, b"B"), image(15, 2, b"C")], num_tokens=10)
    assert [one.digest for one in images_in(scheduled)] == [b"A", b"B"]
    scheduled.request.num_computed_tokens = 3
    assert [one.digest for one in images_in(scheduled)] == [b"B"]
    scheduled.request.num_computed_tokens = 13
    assert [one.digest for one in images_in(scheduled)] == [b"C"]
