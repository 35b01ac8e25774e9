"""One forward of a model over rows of tokens of several requests, flattened into a single sequence.

Tells attention where each row's keys are, and computes logits only where they are asked for. Knows token ids,
positions and block tables; nothing of requests, drafts or sampling.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import torch

from runtime.llm.adapters.adaptation import Adaptation
from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.forward_context import use_attention
from runtime.llm.language_head import LanguageHead
from runtime.llm.request import Adapter, PromptImage


class TokenRow(NamedTuple):
    """Tokens that follow one another in one request."""

    token_ids: Sequence[int]
    start: int
    """Position of the first; the keys of all tokens before it are stored."""
    block_ids: list[int]
    images: Sequence[PromptImage] = ()
    """The request's, wherever in it they are."""
    adapter: Adapter | None = None


class Vision(Protocol):
    """What is different about the inputs of a vision-language model; `vision/inputs.py`."""

    def adapt(self, inputs: dict[str, Any], rows: Sequence[TokenRow]) -> None:
        """Exchange token ids for embeddings, and plain positions for those of the model, where there is need."""


class Forward:
    """`model` is a `…ForCausalLM` whose attention is `attention.attend`; without `adaptation` no row has an adapter."""

    def __init__(
        self,
        model: Any,
        attention: GatherAttention,
        vision: Vision | None = None,
        adaptation: Adaptation | None = None,
    ) -> None:
        self._decoder = getattr(model, model.base_model_prefix)
        self._head = LanguageHead(model)
        self._attention = attention
        self._device = attention.device
        self._vision = vision
        self._adaptation = adaptation

    def compute(self, rows: Sequence[TokenRow]) -> "Computed":
        """Store the KV of every token."""
        token_ids: list[int] = []
        positions: list[int] = []
        spans: list[Span] = []
        for row in rows:
            num_tokens = len(row.token_ids)
            spans.append(Span(len(token_ids), num_tokens, row.start, row.block_ids))
            token_ids += row.token_ids
            positions += range(row.start, row.start + num_tokens)
        with torch.inference_mode(), use_attention(self._attention.prepare(spans)):
            inputs = {
                "input_ids": torch.tensor([token_ids], device=self._device),
                "position_ids": torch.tensor([positions], device=self._device),
            }
            if self._vision is not None:
                self._vision.adapt(inputs, rows)
            # use_cache is said aloud because the config's default would build a second cache.
            with self._adaptation.applied(rows) if self._adaptation is not None else nullcontext():
                decoded = self._decoder(**inputs, use_cache=False)
        return Computed(self._head, decoded, self._device)


class Computed:
    """What the decoder made of a flattened batch."""

    def __init__(self, head: LanguageHead, decoded: Any, device: torch.device) -> None:
        self._head = head
        self._decoded = decoded
        self._device = device

    def logits(self, positions: list[int]) -> torch.Tensor:
        """[positions, vocabulary]: what follows the tokens at these positions of the flattened batch."""
        with torch.inference_mode():
            return self._head.logits(self._decoded, torch.tensor(positions, device=self._device))
