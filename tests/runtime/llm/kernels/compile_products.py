"""A program: compiles all that experts and adapters launch, few tokens and many, for the GPU of the capability given.

Prints what each takes of a GPU: shared memory, and registers that did not suffice.
"""

import sys

import torch
from torch import nn

from runtime.llm.adapters.grouping import ITEM_FIELDS, num_items_max
from runtime.llm.adapters.places import Place
from runtime.llm.adapters.stacks import AdapterStacks, Groups
from runtime.llm.kernels import lora
from runtime.llm.kernels.experts import mix_experts
from runtime.llm.linear import Linear
from runtime.llm.patches.expert_weights import ExpertWeights
from runtime.llm.patches.operations import ExpertChoice
from tests.fakes.kernel_compilation import SHARED_BYTES_MAX, compile_launches

NUM_TOKENS = (1, 200)
NUM_SLOTS, RANK_MAX, WIDTH = 4, 64, 4096


def main(capability: int, dtype: torch.dtype) -> None:
    kernels = compile_launches(lambda: launch(dtype), capability)
    for kernel in kernels:
        assert kernel.metadata.shared <= SHARED_BYTES_MAX, kernel.metadata
    names = [kernel.metadata.name for kernel in kernels]
    assert names == [*_NAMES * len(NUM_TOKENS), "_shrink_kernel", "_expand_kernel"], names
    print([(kernel.metadata.name, kernel.metadata.shared) for kernel in kernels])


_NAMES = ["_count_kernel", "_order_kernel", "_gate_up_kernel", "_down_kernel", "_sum_kernel"]


def launch(dtype: torch.dtype) -> None:
    experts = ExpertWeights(torch.empty(8, 512, 256, dtype=dtype), torch.empty(8, 256, 256, dtype=dtype))
    for num_tokens in NUM_TOKENS:
        choice = ExpertChoice(torch.zeros(num_tokens, 2, dtype=torch.int64), torch.empty(num_tokens, 2))
        mix_experts(torch.empty(num_tokens, 256, dtype=dtype), choice, experts, "silu")
    linear = Linear([nn.Linear(WIDTH, 256, dtype=dtype), nn.Linear(WIDTH, 64, dtype=dtype)], lambda weight: None)
    places = {"a": Place(linear, 0, 256), "b": Place(linear, 256, 320)}
    stacks = AdapterStacks(
        places,
        {"a": (256, WIDTH), "b": (64, WIDTH)},
        num_slots=NUM_SLOTS,
        rank_max=RANK_MAX,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    stack = stacks.by_linear[linear]
    groups = Groups(
        torch.full((num_items_max(NUM_TOKENS[1], NUM_SLOTS) * ITEM_FIELDS,), -1, dtype=torch.int32),
        torch.zeros(NUM_TOKENS[1], dtype=torch.int32),
        torch.empty(lora.num_partials(stack, NUM_TOKENS[1])),
    )
    outputs = torch.empty(NUM_TOKENS[1], 320, dtype=dtype)
    lora.add(outputs, torch.empty(NUM_TOKENS[1], WIDTH, dtype=dtype), stack, groups)


main(int(sys.argv[1]), getattr(torch, sys.argv[2]))
