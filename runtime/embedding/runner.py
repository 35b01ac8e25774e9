"""Computes one step: tokens to vectors, scores or logits. Knows nothing of turns, tasks or sockets."""

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch.nn.functional import gelu, linear

from models.info import DenseInfo, EmbeddingInfo
from runtime.embedding.encoders import Encoder, StepTokens
from runtime.embedding.layout import Layout
from runtime.embedding.pooling import pool
from runtime.embedding.request import Row, RowOutput, Text
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.linear import Packing

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda inputs: inputs,
    "tanh": torch.tanh,
    "gelu": gelu,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
}
_PACKING_S = 0.01
"""A pause is used in pieces this short, so that a request need not wait."""


class DenseLayer:
    """One of the layers between pooling and vector, in float32: they are small and come last."""

    def __init__(self, checkpoint: Checkpoint, info: DenseInfo, device: torch.device) -> None:
        self._weight = checkpoint.tensor("linear.weight").to(device, torch.float32)
        self._bias = checkpoint.tensor("linear.bias").to(device, torch.float32) if info.has_bias else None
        self._activate = _ACTIVATIONS[info.activation]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._activate(linear(inputs, self._weight, self._bias))


class TokenHead:
    """The rows of a language model's head, looked up one by one: a step needs those of a few tokens."""

    def __init__(self, weight: torch.Tensor, device: torch.device, cap: float | None) -> None:
        self._weight = weight
        """[vocabulary, hidden size]; a view of the file, wherever the model is."""
        self._device = device
        self._cap = cap
        self._known: tuple[tuple[int, ...], torch.Tensor] | None = None

    def logits(self, hidden: torch.Tensor, token_ids: tuple[int, ...]) -> torch.Tensor:
        """[texts, tokens] in float32."""
        if self._known is None or self._known[0] != token_ids:
            self._known = (token_ids, self._weight[list(token_ids)].to(self._device, hidden.dtype))
        logits = linear(hidden, self._known[1]).float()
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap


class EmbeddingRunner:
    """`head` where the model can tell the logits of tokens; `packing` is done in pauses."""

    def __init__(
        self,
        encoder: Encoder,
        info: EmbeddingInfo,
        device: torch.device,
        *,
        dense: Sequence[DenseLayer] = (),
        head: TokenHead | None = None,
        packing: Packing | None = None,
    ) -> None:
        self._encoder = encoder
        self._pooling = info.pooling
        self._device = device
        self._dense = dense
        self._head = head
        self._packing = packing

    def execute(self, rows: Sequence[Row], note_layer: Callable[[], None] = lambda: None) -> list[RowOutput]:
        """What was asked of each text, in no order."""
        # Those that ask for the same tokens' logits follow one another, where they are as long as each other.
        rows = sorted(rows, key=lambda row: (-row.text.num_tokens, row.request.logit_token_ids))
        layout = Layout([row.text.num_tokens for row in rows], self._device, note_layer)
        with torch.inference_mode():
            hidden = self._encoder.encode(self._tokens(rows, layout))
            outputs = self._made(rows, hidden, layout) + self._asked(rows, hidden, layout)
        assert len(outputs) == len(rows)
        return outputs

    def rest(self) -> bool:
        if self._packing:
            with torch.inference_mode():
                self._packing.advance(_PACKING_S)
        return bool(self._packing)

    def pack(self) -> None:
        """All of it at once."""
        while self.rest():
            pass

    def _tokens(self, rows: Sequence[Row], layout: Layout) -> StepTokens:
        token_ids = [token_id for row in rows for token_id in row.text.token_ids]
        types = [type_id for row in rows for type_id in _type_ids(row.text)]
        return StepTokens(
            torch.tensor(token_ids, device=self._device), layout, torch.tensor(types, device=self._device)
        )

    def _made(self, rows: Sequence[Row], hidden: torch.Tensor, layout: Layout) -> list[RowOutput]:
        """The vectors or scores of those that ask for nothing else."""
        chosen = [place for place, row in enumerate(rows) if not row.request.logit_token_ids]
        if not chosen:
            return []
        if self._encoder.is_scorer:
            made = self._encoder.score(hidden, layout)[:, None]
        else:
            made = pool(*_without_prompts(rows, hidden, layout), self._pooling)
            for dense in self._dense:
                made = dense(made)
        values = made.cpu().numpy()
        return [RowOutput(rows[place].request.request_id, rows[place].text_index, values[place]) for place in chosen]

    def _asked(self, rows: Sequence[Row], hidden: torch.Tensor, layout: Layout) -> list[RowOutput]:
        """The logits of those that ask for some."""
        outputs = []
        for token_ids, group in groupby(enumerate(rows), key=lambda place: place[1].request.logit_token_ids):
            if not token_ids:
                continue
            assert self._head is not None, "the frontend knows"
            places, own = zip(*group, strict=True)
            last = hidden[layout.last_places[list(places)]]
            values = self._head.logits(last, token_ids).cpu().numpy()
            outputs += [
                RowOutput(row.request.request_id, row.text_index, value) for row, value in zip(own, values, strict=True)
            ]
        return outputs


def _type_ids(text: Text) -> list[int]:
    if text.second_start is None:
        return [0] * text.num_tokens
    return [0] * text.second_start + [1] * (text.num_tokens - text.second_start)


def _without_prompts(rows: Sequence[Row], hidden: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, Layout]:
    """What is to be pooled: everything, but for prompts of a model that was made so."""
    unpooled = [row.text.num_unpooled for row in rows]
    if not any(unpooled):
        return hidden, layout
    kept = layout.positions >= torch.tensor(unpooled, device=layout.device)[layout.owners]
    lengths = [length - skipped for length, skipped in zip(layout.lengths, unpooled, strict=True)]
    return hidden[kept], Layout(lengths, layout.device)
