"""A program: compiles all that the attention of one model launches, for the GPU of the capability given."""

import sys

import torch

from models.info import AttentionInfo
from runtime.llm.attention_gather import Span
from runtime.llm.attention_triton import TritonAttention
from tests.fakes.kernel_compilation import compile_launches

SHAPE = AttentionInfo(
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_size=16,
    value_head_size=16,
    sliding_window=400,
    full_attention_layers=[1],
)


def main(capability: int) -> None:
    backend = TritonAttention(SHAPE, num_blocks=40, block_size=32, dtype=torch.bfloat16, device=torch.device("cpu"))
    step = backend.prepare([Span(0, 1, 600, list(range(1, 20))), Span(1, 20, 0, [20])])
    query, key = torch.empty(2, 21, 4, 16, dtype=torch.bfloat16)

    def launch() -> None:
        for layer, softcap in enumerate((50.0, None)):
            step.attend(
                layer,
                query,
                query[:, :2],
                key[:, :2],
                scaling=0.1,
                sliding_window=SHAPE.window(layer),
                softcap=softcap,
            )

    names = [kernel.metadata.name for kernel in compile_launches(launch, capability)]
    assert names == ["_write", "_attend", "_attend", "_merge"] * 2, names


main(int(sys.argv[1]))
