"""How many bytes a model needs to be served: weights, KV cache, activations, the process itself.

Pure functions of what is known of a model. They are upper bounds for admission; the footprint measured after the first
load replaces them. All sizes are bytes, `dtype` is the one served: float32, bfloat16 or float16. `keeps_fp8`: weights
that are stored in 8-bit floats are multiplied as they are, as far as they can be; otherwise they are converted.
`is_kv_fp8`: keys and values are stored in 8-bit floats; otherwise in the dtype.
"""

from collections.abc import Sequence

from models.info import ModelInfo
from models.vision import max_image_patches

MIB = 1024 * 1024

BLOCK_SIZE_MAX = 256
"""Tokens. A request's last KV block is half empty on average; memory is planned for blocks of up to this size."""

LOGIT_ROWS_MIN = 32
"""A step may compute logits at so many positions, however few requests there are: one request's draft is verified."""

GRAPH_TOKENS_MAX = 512
"""Of a step that is captured as a CUDA graph."""
GRAPH_ROWS_MAX = 256
"""Of requests, and of logits, in such a step."""
_GRAPH_SEGMENTS_MAX = 32
"""Into which attention cuts the keys of one request."""
_GRAPH_BYTES_PER_LAYER = 8 * MIB
"""For what the driver keeps of all graphs."""

IMAGES_KEPT = 64
IMAGE_CACHE_BYTES_MAX = 256 * MIB

CPU_PROCESS_BYTES = 512 * MIB
"""Interpreter, torch, tokenizer and oneDNN scratch of one worker."""
CUDA_PROCESS_BYTES = 1024 * MIB
"""CUDA context, loaded kernels and cuBLAS workspaces of one worker, on the device."""

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_SCALE_BYTES = 4
# Sampling one row holds, per vocabulary entry: the logit as served and as float32, the sorted float32 and its int64
# index, probabilities and their running sum in float32.
_SAMPLING_BYTES_PER_LOGIT = 4 + 4 + 8 + 4 + 4


def weight_bytes(info: ModelInfo, dtype: str, *, keeps_fp8: bool = False) -> int:
    """num_parameters × bytes(dtype): the stored weights, converted; tied embeddings count once.

    Of those that stay in 8-bit floats: num_staying_parameters + num_staying_rows × 4.
    """
    if info.fp8 is None or not keeps_fp8:
        return info.num_parameters * DTYPE_BYTES[dtype]
    staying = info.fp8.num_staying_parameters
    return (info.num_parameters - staying) * DTYPE_BYTES[dtype] + staying + info.fp8.num_staying_rows * _SCALE_BYTES


def kv_bytes_per_token(info: ModelInfo, dtype: str, *, is_kv_fp8: bool = False) -> int:
    """layers × KV heads × (key size + value size) × bytes(dtype). A sliding window does not lower it.

    In 8-bit floats: layers × KV heads × (key size + value size + 2 × 4).
    """
    attention = info.attention
    num_bytes = sum(attention.part_sizes) * DTYPE_BYTES[dtype]
    if is_kv_fp8:
        num_bytes = sum(size + _SCALE_BYTES for size in attention.part_sizes)
    return attention.num_layers * attention.num_kv_heads * num_bytes


def activation_bytes(info: ModelInfo, dtype: str, max_batch_tokens: int, max_num_requests: int) -> int:
    """The most that one step holds beside weights and cache.

    tokens × (2 × hidden + max(attention, MLP)) × bytes(dtype), where
    attention = query + key + value + output and MLP = 3 × intermediate (gate, up, their product), elements per token;
    plus rows × vocabulary × (bytes(dtype) + 24) for logits and sampling, where rows ≤ min(max(requests, 32), tokens).
    """
    itemsize = DTYPE_BYTES[dtype]
    num_rows = min(max(max_num_requests, LOGIT_ROWS_MIN), max_batch_tokens)
    sampling = num_rows * info.vocab_size * (itemsize + _SAMPLING_BYTES_PER_LOGIT)
    return max_batch_tokens * _activations_per_token(info) * itemsize + sampling


def graph_bytes(info: ModelInfo, dtype: str, max_batch_tokens: int, max_num_requests: int) -> int:
    """What captured steps hold beside weights and cache; they share what their largest one needs.

    tokens × activations as in `activation_bytes`, 2 × rows × vocabulary × bytes(dtype) for logits, rows × 32 ×
    heads × (value size + 2) × 4 for what attention merges, and 8 MiB for each layer; tokens ≤ 512, rows ≤ 256.
    """
    shape, itemsize = info.attention, DTYPE_BYTES[dtype]
    num_rows = graph_rows(max_num_requests)
    activations = min(GRAPH_TOKENS_MAX, max_batch_tokens) * _activations_per_token(info) * itemsize
    logits = 2 * num_rows * info.vocab_size * itemsize
    merged = num_rows * _GRAPH_SEGMENTS_MAX * shape.num_heads * (shape.value_head_size + 2) * 4
    return activations + logits + merged + shape.num_layers * _GRAPH_BYTES_PER_LAYER


def graph_rows(max_num_requests: int) -> int:
    """Of logits, in a captured step at most."""
    return min(GRAPH_ROWS_MAX, max(max_num_requests, LOGIT_ROWS_MIN))


def encoder_bytes(info: ModelInfo, dtype: str) -> int:
    """What an image encoder holds beside its weights: one image's activations, and the outputs that are kept.

    patches × (8 × hidden + 2 × intermediate) × 4, attention's rotation being in float32; plus the outputs' memory.
    """
    if info.vision is None:
        return 0
    per_patch = 8 * info.vision.hidden_size + 2 * info.vision.intermediate_size
    return max_image_patches(info.vision) * per_patch * 4 + image_cache_bytes(info, dtype)


def image_cache_bytes(info: ModelInfo, dtype: str) -> int:
    """For the outputs of a vision-language model's encoder: of so many of the largest images, within a limit."""
    if info.vision is None:
        return 0
    num_tokens = -(-max_image_patches(info.vision) // info.vision.merge_size**2)
    one_image = num_tokens * info.hidden_size * DTYPE_BYTES[dtype]
    return max(one_image, min(IMAGES_KEPT * one_image, IMAGE_CACHE_BYTES_MAX))


def adapter_bytes(info: ModelInfo, dtype: str, rank: int) -> int:
    """The most that one loaded LoRA addon of this rank takes: two matrices for each linear layer that can be adapted.

    layers × rank × (attention + MLP + hidden + 1) × bytes(dtype), where attention and MLP are the sums of their
    projections' rows and columns; the rest is a gate that some families have besides.
    """
    shape = info.attention
    heads = (shape.num_heads + shape.num_kv_heads) * (shape.head_size + shape.value_head_size)
    attention, mlp = 4 * info.hidden_size + heads, 3 * (info.hidden_size + info.intermediate_size)
    return shape.num_layers * rank * (attention + mlp + info.hidden_size + 1) * DTYPE_BYTES[dtype]


def adapters_bytes(info: ModelInfo, dtype: str, num_adapters: int, rank: int, max_batch_tokens: int) -> int:
    """What a worker sets aside to serve so many addons: their matrices, and copies of rows while they are applied.

    num_adapters × adapter_bytes + tokens × (hidden + attention + 3 × intermediate) × bytes(dtype).
    """
    if not num_adapters:
        return 0
    shape = info.attention
    heads = (shape.num_heads + 2 * shape.num_kv_heads) * max(shape.head_size, shape.value_head_size)
    per_token = info.hidden_size + heads + 3 * info.intermediate_size
    return num_adapters * adapter_bytes(info, dtype, rank) + max_batch_tokens * per_token * DTYPE_BYTES[dtype]


def kv_cache_bytes(
    models: Sequence[ModelInfo],
    dtype: str,
    *,
    max_context_length: int,
    concurrency: int,
    num_devices: int = 1,
    is_kv_fp8: bool = False,
) -> int:
    """On each device, for `concurrency` requests of full context: (context + BLOCK_SIZE_MAX) tokens each."""
    num_tokens = concurrency * (max_context_length + BLOCK_SIZE_MAX)
    return num_tokens * _kv_bytes_per_token(models, dtype, num_devices, is_kv_fp8)


def fixed_bytes(
    models: Sequence[ModelInfo],
    dtype: str,
    *,
    max_batch_tokens: int,
    max_num_requests: int,
    is_cuda: bool,
    num_adapters: int = 0,
    max_adapter_rank: int = 64,
    num_devices: int = 1,
    keeps_fp8: bool = False,
    has_graphs: bool = False,
) -> int:
    """On each device, all that a replica of the first model, with the others as drafts, holds beside its KV cache.

    process + resident weights + activations of every model, and `adapters_bytes` of the first. Over several devices
    the first model's weights are divided, but for the embedding, which stands on each; drafts are whole on one of
    them. The process, activations and adapters are taken to be whole on each.
    """
    adapters = adapters_bytes(models[0], dtype, num_adapters, max_adapter_rank, max_batch_tokens)
    shares = [num_devices, *[1] * (len(models) - 1)]
    resident = sum(
        _resident_bytes(model, dtype, share, is_cuda=is_cuda, keeps_fp8=keeps_fp8)
        for model, share in zip(models, shares, strict=True)
    )
    step = step_bytes(
        models, dtype, max_batch_tokens, max_num_requests, keeps_fp8=keeps_fp8, has_graphs=has_graphs and is_cuda
    )
    return process_bytes(is_cuda) + resident + adapters + step


def step_bytes(
    models: Sequence[ModelInfo],
    dtype: str,
    max_batch_tokens: int,
    max_num_requests: int,
    *,
    keeps_fp8: bool = False,
    has_graphs: bool = False,
) -> int:
    """Of `fixed_bytes` what is held only while a full step runs, or once steps were captured, which with `has_graphs`
    those of the first model are: a load that has just ended does not show it."""
    graphs = graph_bytes(models[0], dtype, max_batch_tokens, max_num_requests) if has_graphs else 0
    return graphs + sum(
        activation_bytes(model, dtype, max_batch_tokens, max_num_requests)
        + encoder_bytes(model, dtype)
        + (rounding_bytes(model, max_batch_tokens) if keeps_fp8 else 0)
        for model in models
    )


def rounding_bytes(info: ModelInfo, max_batch_tokens: int) -> int:
    """What one product of 8-bit floats holds of its inputs: tokens × its widest input × (4 + 1)."""
    if info.fp8 is None:
        return 0
    widest = max(info.hidden_size, info.intermediate_size, info.attention.num_heads * info.attention.value_head_size)
    return max_batch_tokens * widest * 5


def process_bytes(is_cuda: bool) -> int:
    return CUDA_PROCESS_BYTES if is_cuda else CPU_PROCESS_BYTES


def replica_bytes(
    info: ModelInfo,
    dtype: str,
    *,
    max_context_length: int,
    concurrency: int,
    max_batch_tokens: int,
    max_num_requests: int,
    is_cuda: bool,
    draft: ModelInfo | None = None,
    num_adapters: int = 0,
    max_adapter_rank: int = 64,
    num_devices: int = 1,
    keeps_fp8: bool = False,
    is_kv_fp8: bool = False,
    has_graphs: bool = False,
) -> int:
    """What one worker takes on each device to hold `concurrency` requests of full context at once."""
    models = [info] if draft is None else [info, draft]
    fixed = fixed_bytes(
        models,
        dtype,
        max_batch_tokens=max_batch_tokens,
        max_num_requests=max_num_requests,
        is_cuda=is_cuda,
        num_adapters=num_adapters,
        max_adapter_rank=max_adapter_rank,
        num_devices=num_devices,
        keeps_fp8=keeps_fp8,
        has_graphs=has_graphs,
    )
    return fixed + kv_cache_bytes(
        models,
        dtype,
        max_context_length=max_context_length,
        concurrency=concurrency,
        num_devices=num_devices,
        is_kv_fp8=is_kv_fp8,
    )


def num_kv_blocks(
    info: ModelInfo,
    dtype: str,
    *,
    memory_budget_bytes: int,
    block_size: int,
    max_batch_tokens: int,
    max_num_requests: int,
    is_cuda: bool,
    draft: ModelInfo | None = None,
    num_adapters: int = 0,
    max_adapter_rank: int = 64,
    known_fixed_bytes: int | None = None,
    keeps_fp8: bool = False,
    is_kv_fp8: bool = False,
    has_graphs: bool = False,
    num_devices: int = 1,
) -> int:
    """How many KV blocks fit a budget on each device; the inverse of `replica_bytes`. 0 when the rest exceeds it.

    With the budget that `replica_bytes` gives, `concurrency` requests of full context fit, for any block size up to
    BLOCK_SIZE_MAX: each needs ceil(context / block_size) ≤ (context + BLOCK_SIZE_MAX) / block_size blocks.
    `known_fixed_bytes`: in place of the estimate of all but the blocks.
    """
    models = [info] if draft is None else [info, draft]
    fixed = known_fixed_bytes
    if fixed is None:
        fixed = fixed_bytes(
            models,
            dtype,
            max_batch_tokens=max_batch_tokens,
            max_num_requests=max_num_requests,
            is_cuda=is_cuda,
            num_adapters=num_adapters,
            max_adapter_rank=max_adapter_rank,
            keeps_fp8=keeps_fp8,
            has_graphs=has_graphs,
            num_devices=num_devices,
        )
    block_bytes = block_size * _kv_bytes_per_token(models, dtype, num_devices, is_kv_fp8)
    return max(0, memory_budget_bytes - fixed) // block_bytes


def _activations_per_token(info: ModelInfo) -> int:
    """Elements."""
    shape = info.attention
    attention = (shape.num_heads + shape.num_kv_heads) * (shape.head_size + shape.value_head_size)
    return 2 * info.hidden_size + max(attention, 3 * info.intermediate_size)


def _kv_bytes_per_token(models: Sequence[ModelInfo], dtype: str, num_devices: int, is_kv_fp8: bool) -> int:
    """On the fullest device, which has the drafts whole. No head of the first model is cut: where there are fewer than
    devices, several have the same one."""
    first, *drafts = models
    num_kv_heads = first.attention.num_kv_heads
    own = kv_bytes_per_token(first, dtype, is_kv_fp8=is_kv_fp8) // num_kv_heads * -(-num_kv_heads // num_devices)
    return own + sum(kv_bytes_per_token(draft, dtype, is_kv_fp8=is_kv_fp8) for draft in drafts)


def _resident_bytes(info: ModelInfo, dtype: str, num_devices: int, *, is_cuda: bool, keeps_fp8: bool) -> int:
    embedding = info.vocab_size * info.hidden_size * DTYPE_BYTES[dtype]
    resident = weight_bytes(info, dtype, keeps_fp8=keeps_fp8)
    if info.tied_embeddings and not is_cuda:
        # On CPU the head is a prepacked copy, while the embedding it is tied to stays for lookups.
        resident += embedding
    return resident if num_devices == 1 else -(-resident // num_devices) + embedding
