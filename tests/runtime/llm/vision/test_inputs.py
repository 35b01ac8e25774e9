from typing import Any

import numpy as np
import torch
from torch import nn

from runtime.llm.forward import TokenRow
from runtime.llm.request import PromptImage
from runtime.llm.vision.features import Encoding, ImageFeatures
from runtime.llm.vision.inputs import VisionInputs

HIDDEN_SIZE = 2


class NumberingEncoder:
    """Row i of image A is -i, of image B -100 - i."""

    def encode(self, image: PromptImage) -> Encoding:
        first = 100 * (image.digest == b"B")
        yield
        return -torch.arange(first, first + image.num_tokens).float().unsqueeze(1).expand(-1, HIDDEN_SIZE)


class Identity(nn.Module):
    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        return token_ids.float().unsqueeze(-1).repeat(1, 1, HIDDEN_SIZE)


def image(name: bytes, start: int, num_tokens: int, grid: tuple[int, int, int] = (1, 2, 2)) -> PromptImage:
    return PromptImage(start, num_tokens, name, np.zeros((1, 1, 3), dtype=np.uint8), grid)


def adapted(rows: list[TokenRow], merge_size: int | None = None) -> dict[str, Any]:
    features = ImageFeatures(NumberingEncoder(), 1000)
    features.advance([one for row in rows for one in row.images], 60.0)
    token_ids = [token_id for row in rows for token_id in row.token_ids]
    positions = [row.start + i for row in rows for i in range(len(row.token_ids))]
    inputs: dict[str, Any] = {"input_ids": torch.tensor([token_ids]), "position_ids": torch.tensor([positions])}
    VisionInputs(Identity(), features, merge_size).adapt(inputs, rows)
    return inputs


def row(token_ids: list[int], start: int, images: list[PromptImage]) -> TokenRow:
    return TokenRow(token_ids=token_ids, start=start, block_ids=[1], images=images)


def test_a_batch_without_images_keeps_its_ids() -> None:
    inputs = adapted([row([1, 2], 0, [])])
    assert inputs.keys() == {"input_ids", "position_ids"}
    assert inputs["position_ids"].tolist() == [[0, 1]]


def test_placeholders_are_overwritten_by_the_part_of_the_image_that_is_in_the_row() -> None:
    images = [image(b"A", 2, 4), image(b"B", 8, 3)]
    inputs = adapted([row([7, 8], 5, []), row([9, 9, 1, 2, 9], 4, images), row([9, 9], 9, images)])
    assert "input_ids" not in inputs
    assert inputs["inputs_embeds"][0, :, 0].tolist() == [7, 8, -2, -3, 1, 2, -100, -101, -102]


def test_positions_of_several_rows_follow_one_another() -> None:
    images = [image(b"A", 1, 4, (1, 4, 4))]
    inputs = adapted([row([3], 6, images), row([1, 9, 9, 9], 0, images)], merge_size=2)
    assert inputs["position_ids"].shape == (3, 1, 5)
    assert inputs["position_ids"][:, 0].tolist() == [[4, 0, 1, 1, 1], [4, 0, 1, 1, 2], [4, 0, 1, 2, 1]]
