"""The families of decoders whose MLPs are mixtures of experts, and DeepSeek V2's compressed attention.

Experts are stored one by one; transformers keeps them stacked, which is the loader's affair. A family's other fields
and tensors are as in `families.py`.
"""

from typing import Annotated, Any

import msgspec

from models.decoder import FULL, SLIDING, Count, Decoder, Length, Size, Tensors, gated_mlp, linear, norm
from models.families import Mistral, head_norms, refuse_uneven
from models.info import LatentInfo
from models.refusal import CONFIG, ModelRefused, RefusalReason, invalid_config
from models.rotary import Rotary, read_rotary

_NUM_EXPERTS_MAX = 2**16
"""Over all layers."""


class Mixtral(Mistral, frozen=True, kw_only=True):
    num_local_experts: Count = 8
    num_experts_per_tok: Count = 2
    sliding_window: Length | None = None

    def check(self) -> None:
        super().check()
        _check_experts(self, self.num_local_experts, self.num_experts_per_tok)

    def mlp(self, index: int) -> Tensors:
        hidden, inner = self.hidden_size, self.intermediate_size
        tensors = linear("block_sparse_moe.gate", self.num_local_experts, hidden)
        for expert in range(self.num_local_experts):
            name = f"block_sparse_moe.experts.{expert}"
            tensors |= linear(f"{name}.w1", inner, hidden) | linear(f"{name}.w3", inner, hidden)
            tensors |= linear(f"{name}.w2", hidden, inner)
        return tensors


class _QwenMixture(Decoder, frozen=True, kw_only=True):
    num_key_value_heads: Count
    num_experts: Count
    num_experts_per_tok: Count
    moe_intermediate_size: Size
    decoder_sparse_step: Count = 1
    mlp_only_layers: list[int] | None = None
    use_sliding_window: bool = False
    sliding_window: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = 4096

    def check(self) -> None:
        super().check()
        _check_experts(self, self.num_experts, self.num_experts_per_tok)

    @classmethod
    def named(cls, config: dict[str, Any]) -> dict[str, Any]:
        """transformers 5 writes the number of experts under Mixtral's name."""
        return {"num_experts": config.get("num_local_experts")} | config if "num_local_experts" in config else config

    @property
    def widest_mlp(self) -> int:
        return max(self.intermediate_size, self.moe_intermediate_size)

    def mlp(self, index: int) -> Tensors:
        is_dense = index in (self.mlp_only_layers or []) or (index + 1) % self.decoder_sparse_step
        if is_dense:
            return gated_mlp("mlp", self.hidden_size, self.intermediate_size)
        return _mixture(self.num_experts, self.hidden_size, self.moe_intermediate_size)


class Qwen2Moe(_QwenMixture, frozen=True, kw_only=True):
    shared_expert_intermediate_size: Size
    max_window_layers: int = 28
    qkv_bias: bool = True

    @property
    def widest_mlp(self) -> int:
        return max(super().widest_mlp, self.shared_expert_intermediate_size)

    def windows(self) -> list[int | None]:
        window = self.sliding_window if self.use_sliding_window else None
        by_index = [
            SLIDING if window and index % 2 == 0 and index < self.max_window_layers else FULL
            for index in range(self.num_hidden_layers)
        ]
        return self.windows_by_type(self.layer_types or by_index, window)

    def attention(self) -> Tensors:
        return self.projections(qkv_bias=self.qkv_bias)

    def mlp(self, index: int) -> Tensors:
        tensors = super().mlp(index)
        if "mlp.gate.weight" in tensors:
            tensors |= gated_mlp("mlp.shared_expert", self.hidden_size, self.shared_expert_intermediate_size)
            tensors |= linear("mlp.shared_expert_gate", 1, self.hidden_size)
        return tensors


class Qwen3Moe(_QwenMixture, frozen=True, kw_only=True):
    attention_bias: bool = False

    def windows(self) -> list[int | None]:
        window = (self.sliding_window or None) if self.use_sliding_window else None
        return [window] * self.num_hidden_layers

    def attention(self) -> Tensors:
        projections = self.projections(qkv_bias=self.attention_bias, output_bias=self.attention_bias)
        return projections | head_norms(self)


class DeepseekV2(Decoder, frozen=True, kw_only=True):
    n_routed_experts: Count
    n_shared_experts: Count
    num_experts_per_tok: Count
    moe_intermediate_size: Size
    first_k_dense_replace: Annotated[int, msgspec.Meta(ge=0)] = 0
    kv_lora_rank: Size = 512
    q_lora_rank: Size | None = 1536
    qk_nope_head_dim: Count = 128
    qk_rope_head_dim: Count = 64
    v_head_dim: Count = 128
    attention_bias: bool = False
    mlp_bias: bool = False
    topk_method: str = "greedy"
    n_group: Count | None = None
    topk_group: Count | None = None
    norm_topk_prob: bool | None = False
    scoring_func: str = "softmax"
    moe_layer_freq: int = 1

    def check(self) -> None:
        super().check()
        refuse_uneven(self)
        _check_experts(self, self.n_routed_experts, self.num_experts_per_tok)
        if self.norm_topk_prob or self.scoring_func != "softmax" or self.moe_layer_freq != 1:
            message = "norm_topk_prob, scoring_func and moe_layer_freq must be those of DeepSeek V2: false, softmax, 1"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, CONFIG)
        self._check_groups()

    @property
    def num_kv_heads(self) -> int:
        """Of keys and values as they are expanded from latents."""
        return self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def value_head_size(self) -> int:
        return self.v_head_dim

    @property
    def latent(self) -> LatentInfo:
        return LatentInfo(size=self.kv_lora_rank, rotated_size=self.qk_rope_head_dim)

    @property
    def widest_mlp(self) -> int:
        return max(self.intermediate_size, self.moe_intermediate_size * self.n_shared_experts)

    def rotary(self) -> Rotary:
        return read_rotary(
            self.rope(),
            head_size=self.qk_rope_head_dim,
            max_position_embeddings=self.max_position_embeddings,
            default_fraction=None,
            original_length=self.original_max_position_embeddings,
        )

    def attention(self) -> Tensors:
        hidden, rank, bias = self.hidden_size, self.q_lora_rank, self.attention_bias
        query = self.num_attention_heads * self.head_size
        if rank is None:
            tensors = linear("self_attn.q_proj", query, hidden)
        else:
            tensors = linear("self_attn.q_a_proj", rank, hidden, bias=bias) | norm("self_attn.q_a_layernorm", rank)
            tensors |= linear("self_attn.q_b_proj", query, rank)
        expanded = self.num_attention_heads * (self.qk_nope_head_dim + self.v_head_dim)
        tensors |= linear("self_attn.kv_a_proj_with_mqa", self.kv_lora_rank + self.qk_rope_head_dim, hidden, bias=bias)
        tensors |= norm("self_attn.kv_a_layernorm", self.kv_lora_rank)
        tensors |= linear("self_attn.kv_b_proj", expanded, self.kv_lora_rank)
        return tensors | linear("self_attn.o_proj", hidden, self.num_attention_heads * self.v_head_dim, bias=bias)

    def mlp(self, index: int) -> Tensors:
        hidden, inner = self.hidden_size, self.moe_intermediate_size
        if index < self.first_k_dense_replace:
            return gated_mlp("mlp", hidden, self.intermediate_size, bias=self.mlp_bias)
        shared = gated_mlp("mlp.shared_experts", hidden, inner * self.n_shared_experts, bias=self.mlp_bias)
        return _mixture(self.n_routed_experts, hidden, inner) | shared

    def _check_groups(self) -> None:
        if self.topk_method not in {"greedy", "group_limited_greedy"}:
            raise invalid_config(f"topk_method {self.topk_method[:40]!r} is not supported")
        if self.topk_method == "group_limited_greedy":
            num_groups, num_chosen = self.n_group or 0, self.topk_group or 0
            if not 1 <= num_chosen <= num_groups or self.n_routed_experts % num_groups:
                message = "topk_group of n_group groups of n_routed_experts cannot be chosen"
                raise invalid_config(message)


def _mixture(num_experts: int, hidden: int, inner: int) -> Tensors:
    tensors = linear("mlp.gate", num_experts, hidden)
    for expert in range(num_experts):
        tensors |= gated_mlp(f"mlp.experts.{expert}", hidden, inner)
    return tensors


def _check_experts(decoder: Decoder, num_experts: int, num_chosen: int) -> None:
    if num_chosen > num_experts:
        raise invalid_config(f"num_experts_per_tok {num_chosen} is more than the {num_experts} experts there are")
    if num_experts * decoder.num_hidden_layers > _NUM_EXPERTS_MAX:
        raise invalid_config(f"{num_experts} experts in each of {decoder.num_hidden_layers} layers are not believable")
