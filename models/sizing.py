"""How many bytes a model needs to be served: weights, KV cache, activations, the process itself.

Pure functions of what is known of a model. They are upper bounds for admission; the footprint measured after the first
load replaces them. All sizes are bytes, `dtype` is the one served: float32, bfloat16 or float16.
"""

from models.info import ModelInfo

MIB = 1024 * 1024

BLOCK_SIZE_MAX = 256
"""Tokens. A request's last KV block is half empty on average; memory is planned for blocks of up to this size."""

CPU_PROCESS_BYTES = 512 * MIB
"""Interpreter, torch, tokenizer and oneDNN scratch of one worker."""
CUDA_PROCESS_BYTES = 1024 * MIB
"""CUDA context, loaded kernels and cuBLAS workspaces of one worker, on the device."""

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Sampling one row holds, per vocabulary entry: the logit as served and as float32, the sorted float32 and its int64
# index, probabilities and their running sum in float32.
_SAMPLING_BYTES_PER_LOGIT = 4 + 4 + 8 + 4 + 4


def weight_bytes(info: ModelInfo, dtype: str) -> int:
    """num_parameters × bytes(dtype): the stored weights, converted; tied embeddings count once."""
    return info.num_parameters * _DTYPE_BYTES[dtype]


def kv_bytes_per_token(info: ModelInfo, dtype: str) -> int:
    """layers × KV heads × (key size + value size) × bytes(dtype). A sliding window does not lower it."""
    attention = info.attention
    elements = attention.num_layers * attention.num_kv_heads * (attention.head_size + attention.value_head_size)
    return elements * _DTYPE_BYTES[dtype]


def activation_bytes(info: ModelInfo, dtype: str, max_batch_tokens: int, max_num_requests: int) -> int:
    """The most that one step holds beside weights and cache.

    tokens × (2 × hidden + max(attention, MLP)) × bytes(dtype), where
    attention = query + key + value + output and MLP = 3 × intermediate (gate, up, their product), elements per token;
    plus rows × vocabulary × (bytes(dtype) + 24) for logits and sampling, where rows ≤ min(requests, tokens).
    """
    shape, itemsize = info.attention, _DTYPE_BYTES[dtype]
    attention = (shape.num_heads + shape.num_kv_heads) * (shape.head_size + shape.value_head_size)
    per_token = 2 * info.hidden_size + max(attention, 3 * info.intermediate_size)
    num_rows = min(max_num_requests, max_batch_tokens)
    sampling = num_rows * info.vocab_size * (itemsize + _SAMPLING_BYTES_PER_LOGIT)
    return max_batch_tokens * per_token * itemsize + sampling


def replica_bytes(
    info: ModelInfo,
    dtype: str,
    *,
    max_context_length: int,
    concurrency: int,
    max_batch_tokens: int,
    max_num_requests: int,
    is_cuda: bool,
) -> int:
    """What one worker takes to hold `concurrency` requests of full context at once.

    process + resident weights + activations + concurrency × (context + BLOCK_SIZE_MAX) × kv_bytes_per_token
    """
    num_tokens = concurrency * (max_context_length + BLOCK_SIZE_MAX)
    fixed = _fixed_bytes(info, dtype, max_batch_tokens, max_num_requests, is_cuda=is_cuda)
    return fixed + num_tokens * kv_bytes_per_token(info, dtype)


def num_kv_blocks(
    info: ModelInfo,
    dtype: str,
    *,
    memory_budget_bytes: int,
    block_size: int,
    max_batch_tokens: int,
    max_num_requests: int,
    is_cuda: bool,
) -> int:
    """How many KV blocks fit a budget; the inverse of `replica_bytes`. 0 when the rest alone exceeds it.

    With the budget that `replica_bytes` gives, `concurrency` requests of full context fit, for any block size up to
    BLOCK_SIZE_MAX: each needs ceil(context / block_size) ≤ (context + BLOCK_SIZE_MAX) / block_size blocks.
    """
    fixed = _fixed_bytes(info, dtype, max_batch_tokens, max_num_requests, is_cuda=is_cuda)
    return max(0, memory_budget_bytes - fixed) // (block_size * kv_bytes_per_token(info, dtype))


def _fixed_bytes(info: ModelInfo, dtype: str, max_batch_tokens: int, max_num_requests: int, *, is_cuda: bool) -> int:
    process = CUDA_PROCESS_BYTES if is_cuda else CPU_PROCESS_BYTES
    resident = weight_bytes(info, dtype)
    if info.tied_embeddings and not is_cuda:
        # On CPU the head is a prepacked copy, while the embedding it is tied to stays for lookups.
        resident += info.vocab_size * info.hidden_size * _DTYPE_BYTES[dtype]
    return process + resident + activation_bytes(info, dtype, max_batch_tokens, max_num_requests)
