"""Requests in the middle of being computed, for attention back ends, and attention written out slowly: per request, per
head, in float64."""

import itertools

import torch

from models.fp8 import FP8_MAX
from models.info import AttentionInfo, LatentInfo
from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.forward_context import Scoring

BLOCK_SIZE = 4
NUM_HEADS, NUM_KV_HEADS, HEAD_SIZE = 6, 2, 8
SHAPE = AttentionInfo(
    num_layers=2, num_heads=NUM_HEADS, num_kv_heads=NUM_KV_HEADS, head_size=HEAD_SIZE, value_head_size=HEAD_SIZE
)
LATENT_SHAPE = AttentionInfo(
    num_layers=1,
    num_heads=5,
    num_kv_heads=5,
    head_size=16,
    value_head_size=8,
    latent=LatentInfo(size=24, rotated_size=8),
).compressed()
SCALING = 0.3
NUM_BLOCKS = 600
CPU = torch.device("cpu")

CASES = {
    "one decode": [(9, 1)],
    "decodes of equal length": [(8, 1), (8, 1), (8, 1)],
    "decodes of different length": [(1, 1), (13, 1), (4, 1), (0, 1)],
    "a fresh prompt": [(0, 11)],
    "a chunk after others": [(7, 6)],
    "everything at once": [(12, 1), (3, 1), (0, 9), (8, 4), (2, 1), (0, 1), (5, 2)],
}


class Requests:
    """Keys and values of some requests, of which a step computes the last few tokens each."""

    def __init__(
        self,
        spans: list[tuple[int, int]],
        shape: AttentionInfo = SHAPE,
        *,
        backend: type[GatherAttention] = GatherAttention,
        block_size: int = BLOCK_SIZE,
        dtype: torch.dtype = torch.float32,
        device: torch.device = CPU,
        is_fp8: bool = False,
    ) -> None:
        """`spans` are (already computed, computed now)."""
        torch.manual_seed(0)
        self.shape = shape
        self.is_fp8 = is_fp8
        self.backend = backend(
            shape, num_blocks=NUM_BLOCKS, block_size=block_size, dtype=dtype, device=device, is_fp8=is_fp8
        )
        self.keys, self.values = (
            [torch.randn(sum(span), shape.num_kv_heads, size).to(device, dtype) for span in spans]
            for size in (shape.head_size, shape.value_head_size)
        )
        if shape.has_values_in_keys:
            self.values = [keys[..., : shape.value_head_size] for keys in self.keys]
        block_ids = iter(torch.randperm(NUM_BLOCKS - 1).add(1).tolist())
        starts = itertools.accumulate((now for _, now in spans), initial=0)
        self.spans = [
            Span(start, now, before, list(itertools.islice(block_ids, -(-(before + now) // block_size))))
            for start, (before, now) in zip(starts, spans, strict=False)
        ]

    def queries(self) -> torch.Tensor:
        keys = self.keys[0]
        queries = torch.randn(self.num_tokens, self.shape.num_heads, self.shape.head_size)
        return queries.to(dtype=keys.dtype, device=keys.device)

    def sinks(self) -> torch.Tensor:
        """Some that take nearly nothing, and some that take nearly all."""
        keys = self.keys[0]
        return (3 * torch.randn(self.shape.num_heads)).to(dtype=keys.dtype, device=keys.device)

    def store_computed(self, layer: int) -> None:
        """What earlier steps have written."""
        for span, keys, values in zip(self.spans, self.keys, self.values, strict=True):
            block_size, num_computed = self.backend.block_size, span.num_computed_tokens
            positions = range(num_computed)
            slots = [span.block_ids[i // block_size] * block_size + i % block_size for i in positions]
            rows = keys if self.shape.has_values_in_keys else torch.cat((keys, values), dim=-1)
            self.backend.store(layer, torch.tensor(slots, dtype=torch.int64, device=rows.device), rows[:num_computed])

    def attend(
        self,
        query: torch.Tensor,
        layer: int,
        window: int | None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        key, value = (
            torch.cat([own[span.num_computed_tokens :] for span, own in zip(self.spans, tensors, strict=True)])
            for tensors in (self.keys, self.values)
        )
        step = self.backend.prepare(self.spans)
        return step.attend(layer, query, key, value, Scoring(SCALING, window, softcap, sinks))

    def expected(
        self,
        query: torch.Tensor,
        window: int | None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        num_heads, shape = query.shape[1], self.shape
        output = torch.zeros(query.shape[0], num_heads, shape.value_head_size, dtype=torch.float64)
        for span, keys, values in zip(self.spans, *self._as_stored(), strict=True):
            for i in range(span.num_tokens):
                position = span.num_computed_tokens + i
                first = 0 if window is None else max(0, position - window + 1)
                for head in range(num_heads):
                    kv_head = head * shape.num_kv_heads // num_heads
                    visible = keys[first : position + 1, kv_head].double()
                    scores = visible @ query[span.start + i, head].double() * SCALING
                    scores = softcap * (scores / softcap).tanh() if softcap else scores
                    sink = scores[:0] if sinks is None else sinks[head].double().reshape(1)
                    weights = torch.cat((scores, sink)).softmax(dim=0)[: len(scores)]
                    output[span.start + i, head] = weights @ values[first : position + 1, kv_head].double()
        return output

    def _as_stored(self) -> list[list[torch.Tensor]]:
        if not self.is_fp8:
            return [self.keys, self.values]
        first = self.shape.part_sizes[0]
        keys = [torch.cat((_rounded(own[..., :first]), _rounded(own[..., first:])), dim=-1) for own in self.keys]
        return [keys, [_rounded(values) for values in self.values]]

    @property
    def num_tokens(self) -> int:
        return sum(span.num_tokens for span in self.spans)


def _rounded(part: torch.Tensor) -> torch.Tensor:
    """To 8-bit floats with one scale for each token and head, and back."""
    if not part.shape[-1]:
        return part
    scale = part.abs().amax(dim=-1, keepdim=True).double() / FP8_MAX
    return (part.double() / scale).to(torch.float8_e4m3fn).double() * scale
