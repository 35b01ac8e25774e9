"""A language model of which each token's arithmetic is its own: rows of a batch cannot differ by who else is in it.

Attention is the engine's, over two layers, the first with a window.
"""

from types import SimpleNamespace
from typing import Any

import msgspec
import torch
from torch import nn

from runtime.llm.forward_context import Scoring, current_attention
from tests.fakes.attention_requests import HEAD_SIZE, NUM_HEADS, NUM_KV_HEADS, SCALING, SHAPE

TOY_SHAPE = msgspec.structs.replace(SHAPE, sliding_window=6, full_attention_layers=[1])
VOCAB_SIZE = 11


class ToyDecoder(nn.Module):
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        table = torch.randn(VOCAB_SIZE, NUM_HEADS * HEAD_SIZE, generator=torch.Generator().manual_seed(3))
        self.table = nn.Parameter(table.to(device))
        self.shift: torch.Tensor | None = None
        """What an adapter adds to each token."""

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, *, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        hidden_states = self.table[input_ids[0]].view(-1, NUM_HEADS, HEAD_SIZE)
        if self.shift is not None:
            hidden_states = hidden_states + self.shift[: len(hidden_states)]
        turned = torch.cos(position_ids[0].float() * 0.1)[:, None, None]
        for layer in range(TOY_SHAPE.num_layers):
            own = hidden_states[:, :NUM_KV_HEADS]
            hidden_states = hidden_states + current_attention().attend(
                layer,
                hidden_states * turned,
                own * turned,
                own * 0.5,
                Scoring(SCALING, TOY_SHAPE.window(layer)),
            )
        return SimpleNamespace(last_hidden_state=hidden_states.view(1, -1, NUM_HEADS * HEAD_SIZE))


class ToyModel(nn.Module):
    base_model_prefix = "model"

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.model = ToyDecoder(device)
        self._table = self.model.table

    def forward(self, input_ids: None, *, use_cache: bool, logits_to_keep: torch.Tensor) -> Any:
        decoded = self.model(input_ids, use_cache=use_cache)
        kept = decoded.last_hidden_state[:, logits_to_keep]
        return SimpleNamespace(logits=(kept.unsqueeze(2) * self._table).sum(-1))
