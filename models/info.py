"""What is known of a model without running it: the result of `inspection.py`, stored with the model."""

import msgspec


class AttentionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Shape of one attention layer's cache."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    """Elements of one key vector."""
    value_head_size: int
    sliding_window: int | None = None
    """Keys a query may see, itself included; None: all."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A language model's checkpoint, as its folder describes it."""

    architecture: str
    """Class name from config.json, e.g. LlamaForCausalLM."""
    model_type: str
    dtype: str
    """Dtype of most weight bytes: bfloat16, float16 or float32."""
    num_parameters: int
    weight_bytes: int
    """Sum over all tensors as stored."""
    tied_embeddings: bool
    vocab_size: int
    """Rows of the logits, at least the tokenizer's size."""
    hidden_size: int
    intermediate_size: int
    attention: AttentionInfo
    max_context_length: int
    has_chat_template: bool
    eos_token_ids: list[int]
    default_sampling: dict[str, float] = {}
    """temperature, top_p, top_k … of generation_config.json."""
    warnings: list[str] = []
    """What was found and ignored, e.g. remote code that will never run."""
    file_sha256: dict[str, str] = {}
    """Every file that a worker reads, by name inside the folder."""
