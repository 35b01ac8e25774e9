"""The same rows of a toy model computed with graphs and without, over KV memory that held the same before."""

from collections.abc import Sequence

import torch

from runtime.llm.adapters.adaptation import Adaptation
from runtime.llm.attention_triton import TritonAttention
from runtime.llm.forward import Forward, TokenRow
from runtime.llm.graph_sizes import GraphSizes
from runtime.llm.graphs import Capturer, StepGraphs
from runtime.llm.network import Network
from tests.fakes.toy_network import TOY_SHAPE, VOCAB_SIZE, ToyModel
from tests.fakes.triton_device import DEVICE, IS_INTERPRETED

BLOCK_SIZE = 4
NUM_BLOCKS = 120


class Side:
    def __init__(
        self,
        model: ToyModel,
        capturer: Capturer | None = None,
        *,
        budget_bytes: int = 10**9,
        adaptation: Adaptation | None = None,
    ) -> None:
        self.attention = TritonAttention(
            TOY_SHAPE, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE, dtype=torch.float32, device=DEVICE
        )
        self.fill()
        self.graphs: StepGraphs | None = None
        if capturer is not None:
            self.sizes = GraphSizes(
                max_num_logits=32, max_batch_tokens=64, tokens_per_tile=self.attention.tokens_per_tile
            )
            self.graphs = StepGraphs(
                Network(model), self.attention, capturer, self.sizes, device=DEVICE, budget_bytes=budget_bytes
            )
        self.forward = Forward(model, self.attention, adaptation=adaptation, graphs=self.graphs)

    def fill(self) -> None:
        """What earlier steps may have left anywhere."""
        for layer, cache in enumerate(self.attention.caches):
            cache.copy_(torch.randn(cache.shape, generator=torch.Generator().manual_seed(layer)))

    def logits(self, rows: Sequence[TokenRow]) -> torch.Tensor:
        """Behind each row's last token."""
        stops = torch.tensor([len(row.token_ids) for row in rows]).cumsum(0)
        wanted = (stops - 1).tolist()
        return self.forward.compute(rows, wanted).logits(wanted).clone()


def are_same(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    """To the bit, but where torch itself sums in an order that depends on how many rows there are."""
    return torch.equal(logits, expected) if IS_INTERPRETED else torch.allclose(logits, expected, rtol=1e-5, atol=1e-4)


def make_rows(lengths: Sequence[tuple[int, int]]) -> list[TokenRow]:
    """(already computed, computed now) of each; blocks are in no order."""
    order = iter(torch.randperm(NUM_BLOCKS - 1, generator=torch.Generator().manual_seed(1)).add(1).tolist())
    return [
        TokenRow(
            [(7 * row + i) % VOCAB_SIZE for i in range(now)],
            before,
            [next(order) for _ in range(-(-(before + now) // BLOCK_SIZE))],
        )
        for row, (before, now) in enumerate(lengths)
    ]
