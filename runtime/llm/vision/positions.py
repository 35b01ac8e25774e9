"""Positions of a Qwen2-VL prompt: three numbers a token, for time, height and width, equal wherever there is text.

An image advances the position by its longer side, not by its number of tokens, so what follows it is shifted for good.
All of it is computed from the request each time; transformers keeps the shift on the model, where requests would mix.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from runtime.llm.request import PromptImage


def positions(images: Sequence[PromptImage], merge_size: int, start: int, stop: int) -> NDArray[np.int64]:
    """Of tokens `start` to `stop` of a request with these images; of shape [3, tokens]."""
    result = np.tile(np.arange(start, stop, dtype=np.int64), (3, 1))
    shift = 0
    for image in images:
        if image.start >= stop:
            break
        _, height, width = (patches // merge_size for patches in image.grid)
        first = image.start - shift
        image_stop = image.start + image.num_tokens
        inside = np.arange(max(start, image.start), min(stop, image_stop)) - image.start
        if inside.size:
            place = slice(inside[0] + image.start - start, inside[-1] + 1 + image.start - start)
            result[0, place] = first
            result[1, place] = first + inside // width
            result[2, place] = first + inside % width
        shift += image.num_tokens - max(height, width)
        after = max(0, image_stop - start)
        result[:, after:] = np.arange(start + after, stop) - shift
    return result


class MultimodalRotary(nn.Module):
    """Takes the place of a rotary embedding: of its frequencies some turn with time, some with height or width."""

    def __init__(self, source: Any, section: list[int]) -> None:
        super().__init__()
        self._source = source
        axis_by_frequency = [axis for axis, count in enumerate(section) for _ in range(count)]
        self._axis_by_frequency = nn.Buffer(torch.tensor(axis_by_frequency), persistent=False)

    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`position_ids` are [3, 1, tokens]; cosines and sines are [1, tokens, head size]."""
        by_frequency = position_ids[:, 0].float().index_select(0, self._axis_by_frequency)
        angles = (by_frequency * self._source.inv_freq.float().unsqueeze(1)).T
        angles = torch.cat((angles, angles), dim=-1).unsqueeze(0)
        scaling = self._source.attention_scaling
        return (angles.cos() * scaling).to(hidden_states.dtype), (angles.sin() * scaling).to(hidden_states.dtype)
