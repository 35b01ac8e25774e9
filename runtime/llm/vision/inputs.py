"""What a forward of a vision-language model is given: embeddings with images among them, and the model's positions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from runtime.llm.forward import TokenRow
from runtime.llm.transfer import to_device
from runtime.llm.vision.features import ImageFeatures
from runtime.llm.vision.positions import positions


class VisionInputs:
    """`merge_size`, of a model whose positions have three dimensions: patches in each direction that are one token."""

    def __init__(self, embed_tokens: torch.nn.Module, features: ImageFeatures, merge_size: int | None) -> None:
        self._embed_tokens = embed_tokens
        self.features = features
        self._merge_size = merge_size

    def adapt(self, inputs: dict[str, Any], rows: Sequence[TokenRow]) -> None:
        """Exchange token ids for embeddings, and plain positions for those of the model, where there is need."""
        if any(row.images for row in rows):
            embeddings = self._embed_tokens(inputs.pop("input_ids"))
            self._place_images(embeddings[0], rows)
            inputs["inputs_embeds"] = embeddings
        if self._merge_size is not None:
            pieces = [
                positions(row.images, self._merge_size, row.start, row.start + len(row.token_ids)) for row in rows
            ]
            by_axis = to_device(np.concatenate(pieces, axis=1), inputs["position_ids"].device)
            inputs["position_ids"] = by_axis.unsqueeze(1)

    def _place_images(self, embeddings: torch.Tensor, rows: Sequence[TokenRow]) -> None:
        """Overwrite the placeholder tokens that are in this step, at places known beforehand: nothing is searched."""
        first_place = 0
        for row in rows:
            for image in row.images:
                first = max(row.start, image.start)
                stop = min(row.start + len(row.token_ids), image.start + image.num_tokens)
                if first < stop:
                    place = first_place + first - row.start
                    seen = self.features.rows(image)[first - image.start : stop - image.start]
                    embeddings[place : place + stop - first] = seen
            first_place += len(row.token_ids)
