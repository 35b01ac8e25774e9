"""A program: compiles all that the attention of one model launches, for the GPU of the capability given."""

import sys
from functools import partial

import torch

from models.info import AttentionInfo, LatentInfo
from runtime.llm.attention_gather import Span
from runtime.llm.attention_triton import TritonAttention
from runtime.llm.forward_context import Scoring
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


LATENT_SHAPE = AttentionInfo(
    num_layers=2,
    num_heads=32,
    num_kv_heads=32,
    head_size=192,
    value_head_size=128,
    latent=LatentInfo(size=512, rotated_size=64),
).compressed()


def main(capability: int) -> None:
    for shape, is_fp8 in ((SHAPE, False), (SHAPE, True), (LATENT_SHAPE, True)):
        names = [kernel.metadata.name for kernel in compile_launches(partial(_launch, shape, is_fp8), capability)]
        assert names == ["_write", "_attend", "_attend", "_merge"] * 2, names


def _launch(shape: AttentionInfo, is_fp8: bool) -> None:
    dtype, device = torch.bfloat16, torch.device("cpu")
    backend = TritonAttention(shape, num_blocks=40, block_size=32, dtype=dtype, device=device, is_fp8=is_fp8)
    step = backend.prepare([Span(0, 1, 600, list(range(1, 20))), Span(1, 20, 0, [20])])
    query = torch.empty(21, shape.num_heads, shape.head_size, dtype=dtype)
    key = query[:, : shape.num_kv_heads]
    value = key[..., : shape.value_head_size]
    sinks = torch.empty(shape.num_heads, dtype=dtype)
    for layer, (softcap, own_sinks) in enumerate(((50.0, None), (None, sinks))):
        window = shape.window(layer)
        step.attend(layer, query, key, value, Scoring(0.1, window, softcap, own_sinks))


main(int(sys.argv[1]))
