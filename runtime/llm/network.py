"""A language model as one function of tensors: from a step's numbers on the device to hidden states and logits.

Knows neither rows nor requests, and reads nothing back. What attention needs beside the tensors is in
`forward_context.py` while it computes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.llm.language_head import LanguageHead


class Numbers(NamedTuple):
    """Of one flattened batch, on the host."""

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    logit_rows: NDArray[np.int64]
    """Behind which of the tokens logits are wanted."""


class Inputs(NamedTuple):
    """The same on the device."""

    token_ids: torch.Tensor
    positions: torch.Tensor
    logit_rows: torch.Tensor
    tables: Sequence[torch.Tensor]
    """The plan's of attention."""

    def by_name(self) -> dict[str, Any]:
        """As decoders of transformers take text."""
        return {"input_ids": self.token_ids[None], "position_ids": self.positions[None]}


class Outputs(NamedTuple):
    decoded: Any
    """What the decoder returned; `last_hidden_state` is [1, tokens, hidden size]."""
    logits: torch.Tensor | None
    """[logit rows, vocabulary]; None when none are wanted."""


class Network:
    """`model` is a `…ForCausalLM` whose attention is `attention.attend`."""

    def __init__(self, model: Any) -> None:
        self._decoder = getattr(model, model.base_model_prefix)
        self._head = LanguageHead(model)

    def decode(self, inputs: dict[str, Any]) -> Any:
        # use_cache is said aloud because the config's default would build a second cache.
        return self._decoder(**inputs, use_cache=False)

    def logits(self, decoded: Any, rows: torch.Tensor) -> torch.Tensor:
        return self._head.logits(decoded, rows)
