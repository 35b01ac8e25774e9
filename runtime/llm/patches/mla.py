"""Latent attention of DeepSeek V2 as it is cheapest to serve: attention over the latents themselves.

Keys and values of all heads are linear in one latent for each token. So a query may be brought to where latents are,
and what it attends to out of there, and the KV cache holds one latent and one rotated key for each token, where
transformers' layer makes keys and values for each head of every token that is seen. `absorb` swaps the attention of a
finished model; whether it may, `runtime/llm/latents.py` finds out before.
"""

from typing import Any

import torch
from torch import nn

from runtime.llm.forward_context import Scoring, current_attention
from runtime.llm.patches.sources import source_key

_ATTENTION_KEY = "fba7109a0fea9cc4"
"""Source of DeepSeek V2's attention and of how it rotates."""


def can_absorb(names: dict[str, Any]) -> bool:
    """Of a modeling file of transformers: whether its attention is the one that `LatentAttention` stands for."""
    return source_key(names["DeepseekV2Attention"], names["apply_rotary_emb"]) == _ATTENTION_KEY


def absorb(model: Any) -> None:
    for layer in getattr(model, model.base_model_prefix).layers:
        layer.self_attn = LatentAttention(layer.self_attn)


class LatentAttention(nn.Module):
    """Takes the place of one attention module of transformers, and the layers in it under their names."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.q_proj, self.q_a_proj, self.q_b_proj = source.q_proj, source.q_a_proj, source.q_b_proj
        self.q_a_layernorm, self.kv_a_layernorm = source.q_a_layernorm, source.kv_a_layernorm
        self.kv_a_proj_with_mqa, self.o_proj = source.kv_a_proj_with_mqa, source.o_proj
        self._index = int(source.layer_idx)
        self._scoring = Scoring(float(source.scaling))
        self._latent_size = int(source.kv_lora_rank)
        self._key_sizes = [int(source.qk_nope_head_dim), int(source.qk_rope_head_dim)]
        expansion = source.kv_b_proj.weight.detach().view(source.num_heads, -1, self._latent_size)
        # [heads, size, latent size] each, and no copies.
        self._to_keys, self._to_values = expansion.split([self._key_sizes[0], source.v_head_dim], dim=1)

    def forward(
        self, hidden_states: torch.Tensor, *, position_embeddings: torch.Tensor, **ignored: object
    ) -> tuple[torch.Tensor, None]:
        """`hidden_states` are [1, tokens, hidden size], `position_embeddings` complex [1, tokens, pairs]."""
        rotation = position_embeddings[0].unsqueeze(1)
        latents = self._latents(hidden_states, rotation)
        attended = current_attention().attend(
            self._index,
            self._queries(hidden_states, rotation),
            latents,
            latents[..., : self._latent_size],
            self._scoring,
        )
        values = torch.bmm(attended.transpose(0, 1), self._to_values.transpose(1, 2)).transpose(0, 1)
        return self.o_proj(values.reshape(1, len(attended), -1)), None

    def _queries(self, hidden_states: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """[tokens, heads, latent size + rotated size]."""
        if self.q_proj is not None:
            queries = self.q_proj(hidden_states)
        else:
            queries = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(hidden_states)))
        heads = queries.view(queries.shape[1], -1, sum(self._key_sizes))
        plain, rotated = heads.split(self._key_sizes, dim=-1)
        absorbed = torch.bmm(plain.transpose(0, 1), self._to_keys).transpose(0, 1)
        return torch.cat((absorbed, _rotate_pairs(rotated, rotation)), dim=-1)

    def _latents(self, hidden_states: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """[tokens, 1, latent size + rotated size]: keys that begin with their values."""
        compressed = self.kv_a_proj_with_mqa(hidden_states)
        latent, rotated = compressed.split([self._latent_size, self._key_sizes[1]], dim=-1)
        normed = self.kv_a_layernorm(latent)
        return torch.cat((normed.transpose(0, 1), _rotate_pairs(rotated.transpose(0, 1), rotation)), dim=-1)


def _rotate_pairs(heads: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Neighbouring elements turn together; [tokens, heads, size]."""
    pairs = torch.view_as_complex(heads.float().reshape(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(heads.dtype)
