from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2VLForConditionalGeneration
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding

from runtime.llm.request import PromptImage
from runtime.llm.vision.positions import MultimodalRotary, positions

MERGE_SIZE = 2
Piece = int | tuple[int, int]
"""So many tokens of text, or an image of so many merged rows and columns."""


def laid_out(pieces: list[Piece]) -> tuple[list[PromptImage], int]:
    """The images of a prompt, and its length; there is a token of text around each image."""
    images: list[PromptImage] = []
    num_tokens = 0
    for piece in pieces:
        if isinstance(piece, int):
            num_tokens += piece
            continue
        height, width = piece
        pixels = np.zeros((0, 0, 3), dtype=np.uint8)
        grid = (1, height * MERGE_SIZE, width * MERGE_SIZE)
        images.append(PromptImage(num_tokens + 1, height * width, b"", pixels, grid))
        num_tokens += height * width + 2
    return images, num_tokens


def by_transformers(model: Any, images: list[PromptImage], num_tokens: int) -> tuple[np.ndarray[Any, Any], int]:
    is_image = torch.zeros(1, num_tokens, dtype=torch.int)
    for image in images:
        is_image[0, image.start : image.start + image.num_tokens] = 1
    grids = torch.tensor([image.grid for image in images]).view(-1, 3)
    found, delta = model.get_rope_index(torch.zeros(1, num_tokens, dtype=torch.long), is_image, image_grid_thw=grids)
    return found[:, 0].numpy(), int(delta[0, 0])


@pytest.fixture(scope="module")
def reference(qwen: Path) -> Any:
    return Qwen2VLForConditionalGeneration.from_pretrained(qwen, dtype=torch.float32).model


def check(reference: Any, pieces: list[Piece], start: int, stop: int) -> None:
    images, num_tokens = laid_out(pieces)
    expected, delta = by_transformers(reference, images, num_tokens)
    decoded = np.tile(np.arange(num_tokens, num_tokens + 20) + delta, (3, 1))
    expected = np.concatenate([expected, decoded], axis=1)
    start, stop = min(start, num_tokens), min(stop, num_tokens + 20)
    assert np.array_equal(positions(images, MERGE_SIZE, start, max(start, stop)), expected[:, start : max(start, stop)])


@pytest.mark.parametrize(
    "pieces",
    [[5], [(2, 3)], [3, (2, 3), 4], [3, (1, 5), 4, (4, 1), (2, 2)], [(3, 3), (3, 3)]],
)
def test_positions_are_transformers(reference: Any, pieces: list[Piece]) -> None:
    check(reference, pieces, 0, 1000)


@given(
    st.lists(st.integers(1, 9) | st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=6),
    st.integers(0, 60),
    st.integers(1, 60),
)
def test_any_part_is_that_part_of_the_whole(reference: Any, pieces: list[Piece], start: int, length: int) -> None:
    check(reference, pieces, start, start + length)


def test_the_rotary_embedding_is_transformers(reference: Any) -> None:
    config = reference.config.text_config
    section = config.rope_parameters["mrope_section"]
    ours = MultimodalRotary(Qwen2RotaryEmbedding(config), section)
    position_ids = torch.randint(0, 500, (3, 1, 50), generator=torch.Generator().manual_seed(1))
    hidden_states = torch.zeros(1, 50, 64)
    expected = Qwen2VLRotaryEmbedding(config)(hidden_states, position_ids)
    for one, other in zip(ours(hidden_states, position_ids), expected, strict=True):
        assert torch.equal(one, other)
