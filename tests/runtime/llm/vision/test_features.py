import numpy as np
import pytest
import torch

from runtime.llm.request import PromptImage
from runtime.llm.vision.features import Encoding, EncodingFailed, ImageFeatures

NUM_LAYERS = 3
HIDDEN_SIZE = 4
IMAGE_BYTES = 2 * HIDDEN_SIZE * 4
LONG_S = 60.0


class CountingEncoder:
    """Gives each image rows of its own number, and keeps a log."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def encode(self, image: PromptImage) -> Encoding:
        name = image.digest.decode()
        for layer in range(NUM_LAYERS):
            self.log.append(f"{name}{layer}")
            yield
        return torch.full((image.num_tokens, HIDDEN_SIZE), float(ord(name)))


def image(name: str, num_tokens: int = 2) -> PromptImage:
    return PromptImage(0, num_tokens, name.encode(), np.zeros((1, 1, 3), dtype=np.uint8), (1, 1, 1))


A, B, C = map(image, "ABC")


def test_an_image_is_encoded_once() -> None:
    encoder = CountingEncoder()
    features = ImageFeatures(encoder, 10 * IMAGE_BYTES)
    assert not features.are_ready([A])
    features.advance([A, B], LONG_S)
    features.advance([B, A], LONG_S)
    assert features.are_ready([A, B])
    assert encoder.log == ["A0", "A1", "A2", "B0", "B1", "B2"]
    assert features.num_encoded == 2
    assert features.rows(B).tolist() == [[66.0] * HIDDEN_SIZE] * 2


def test_an_image_that_cannot_be_encoded_leaves_the_others_alone() -> None:
    class BreakingEncoder(CountingEncoder):
        def encode(self, image: PromptImage) -> Encoding:
            if image is B:
                yield
                raise MemoryError
            return (yield from super().encode(image))

    features = ImageFeatures(BreakingEncoder(), 10 * IMAGE_BYTES)
    with pytest.raises(EncodingFailed) as failed:
        features.advance([A, B, C], LONG_S)
    assert failed.value.digest == b"B"
    features.advance([C], LONG_S)
    assert features.are_ready([A, C])


def test_without_time_one_layer_is_computed_each_time() -> None:
    encoder = CountingEncoder()
    features = ImageFeatures(encoder, 10 * IMAGE_BYTES)
    num_calls = 0
    while not features.are_ready([A]):
        features.advance([A], 0.0)
        num_calls += 1
        assert len(encoder.log) <= num_calls
    assert num_calls == NUM_LAYERS + 1


def test_what_was_begun_is_finished_although_nobody_waits_for_it() -> None:
    encoder = CountingEncoder()
    features = ImageFeatures(encoder, 10 * IMAGE_BYTES)
    features.advance([A], 0.0)
    features.advance([B], LONG_S)
    assert encoder.log == ["A0", "A1", "A2", "B0", "B1", "B2"]


def test_the_least_recently_used_goes_first() -> None:
    features = ImageFeatures(CountingEncoder(), 2 * IMAGE_BYTES)
    features.advance([A], LONG_S)
    features.advance([B], LONG_S)
    features.rows(A)
    features.advance([C], LONG_S)
    assert features.are_ready([A, C])
    assert not features.are_ready([B])


def test_what_is_forgotten_is_encoded_anew() -> None:
    encoder = CountingEncoder()
    features = ImageFeatures(encoder, 10 * IMAGE_BYTES)
    features.advance([A], LONG_S)
    features.advance([B], 0.0)
    features.clear()
    assert not features.are_ready([A])
    features.advance([A, B], LONG_S)
    assert encoder.log == ["A0", "A1", "A2", "B0", "A0", "A1", "A2", "B0", "B1", "B2"]


def test_what_one_row_needs_is_kept_together_whatever_its_size() -> None:
    features = ImageFeatures(CountingEncoder(), IMAGE_BYTES)
    features.advance([A, B, C], LONG_S)
    assert features.are_ready([A, B, C])
    features.advance([image("D")], LONG_S)
    assert not any(features.are_ready([one]) for one in (A, B, C))
