"""A program: compiles what stands between a layer's products, and the sampler, for the GPU of the capability given."""

import sys

import torch

from runtime.llm.kernels import sampling
from runtime.llm.kernels.glu import gate
from runtime.llm.kernels.norm import add_norm
from runtime.llm.kernels.rotary import rotate
from runtime.llm.kernels.rotary_kv import rotate_into_cache
from runtime.llm.patches.gated_mlp import ACTIVATIONS
from runtime.llm.patches.operations import HeadNorms, Scale
from tests.fakes.kernel_compilation import SHARED_BYTES_MAX, compile_launches

NUM_TOKENS, WIDTH, HEAD_SIZE, NUM_HEADS, NUM_QUERY_HEADS = 8, 4096, 128, 40, 32
VOCAB_SIZE, SEGMENT_SIZE = 128256, 512


def main(capability: int, dtype: torch.dtype) -> None:
    kernels = compile_launches(lambda: launch(dtype), capability)
    for kernel in kernels:
        assert kernel.metadata.shared <= SHARED_BYTES_MAX, kernel.metadata
    print([(kernel.metadata.name, kernel.metadata.shared) for kernel in kernels])
    assert {kernel.metadata.name for kernel in kernels} == _NAMES


_NAMES = {
    "_add_norm_kernel", "_gate_kernel", "_rotate_kernel", "_rotate_into_cache_kernel", "_forbid_kernel",
    "_truncate_kernel", "_search_kernel",
}  # fmt: skip


def launch(dtype: torch.dtype) -> None:
    weight = torch.empty(WIDTH, dtype=dtype)
    hidden = torch.empty(1, NUM_TOKENS, WIDTH, dtype=dtype)
    for scale in (
        Scale(weight, 1e-6),
        Scale(weight, 1e-6, is_shifted=True),
        Scale(weight, 1e-6, is_centred=True),
        Scale(weight, 1e-6, is_centred=True, bias=weight),
    ):
        add_norm(hidden, None, scale)
        add_norm(hidden, torch.empty_like(hidden), scale)
    for activation in set(ACTIVATIONS.values()):
        gate(hidden, activation)
    heads = torch.empty(NUM_TOKENS, NUM_HEADS, HEAD_SIZE, dtype=dtype)
    angles = torch.empty(NUM_TOKENS, 1, HEAD_SIZE, dtype=dtype)
    head_scale = Scale(weight[:HEAD_SIZE], 1e-6)
    cache = torch.empty(NUM_TOKENS, (NUM_HEADS - NUM_QUERY_HEADS) // 2, 2 * HEAD_SIZE, dtype=dtype)
    slots, scales = torch.empty(NUM_TOKENS, dtype=torch.int32), torch.empty(NUM_TOKENS, cache.shape[1], 2)
    for norms in (None, HeadNorms(head_scale, head_scale)):
        rotate(heads, (angles, angles), NUM_QUERY_HEADS, norms)
        rotate_into_cache(heads, (angles, angles), norms, cache, slots)
        rotate_into_cache(heads, (angles, angles), norms, cache.to(torch.float8_e4m3fn), slots, scales)
    launch_sampler()


def launch_sampler() -> None:
    rows = torch.empty(NUM_TOKENS, VOCAB_SIZE)
    masks = torch.empty(NUM_TOKENS, -(-VOCAB_SIZE // 32) * 4, dtype=torch.uint8)
    sampling.forbid(rows, torch.empty(NUM_TOKENS, dtype=torch.int64), masks)
    sampling.truncate(rows, torch.empty(NUM_TOKENS, 3))
    num_segments = -(-VOCAB_SIZE // SEGMENT_SIZE)
    segments = torch.empty(NUM_TOKENS, num_segments, SEGMENT_SIZE)
    sampling.search(segments, segments.sum(dim=-1), torch.empty(NUM_TOKENS, dtype=torch.float64), VOCAB_SIZE)


main(int(sys.argv[1]), getattr(torch, sys.argv[2]))
