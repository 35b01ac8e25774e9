"""The families of dense decoders: each says in which fields and tensors it differs from the plain shape.

Names and defaults are those of transformers' config classes. Where a default of theirs is one model's size rather than
a rule, the field must be stated.
"""

from typing import Any, ClassVar

from models.decoder import FULL, SLIDING, Count, Decoder, Length, Tensors, gated_mlp, linear, norm
from models.refusal import CONFIG, ModelRefused, RefusalReason, invalid_config
from models.rotary import Rotary, read_rotary

_GELUS = frozenset({"gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh"})


class Llama(Decoder, frozen=True, kw_only=True):
    attention_bias: bool = False
    mlp_bias: bool = False

    def check(self) -> None:
        super().check()
        refuse_uneven(self)

    def attention(self) -> Tensors:
        return self.projections(qkv_bias=self.attention_bias, output_bias=self.attention_bias)

    def mlp(self, index: int) -> Tensors:
        return gated_mlp("mlp", self.hidden_size, self.intermediate_size, bias=self.mlp_bias)


class Mistral(Decoder, frozen=True, kw_only=True):
    num_key_value_heads: Count | None
    sliding_window: Length | None = 4096

    def windows(self) -> list[int | None]:
        return [self.sliding_window] * self.num_hidden_layers


class Qwen2(Decoder, frozen=True, kw_only=True):
    num_key_value_heads: Count | None
    use_sliding_window: bool = False
    sliding_window: Length | None = 4096
    max_window_layers: int = 28

    def windows(self) -> list[int | None]:
        window = self.sliding_window if self.use_sliding_window else None
        first = self.max_window_layers if window else self.num_hidden_layers
        by_index = [SLIDING if index >= first else FULL for index in range(self.num_hidden_layers)]
        return self.windows_by_type(self.layer_types or by_index, window)

    def attention(self) -> Tensors:
        return self.projections(qkv_bias=True)


class Qwen3(Qwen2, frozen=True, kw_only=True):
    head_dim: Count | None = 128
    attention_bias: bool = False

    def attention(self) -> Tensors:
        projections = self.projections(qkv_bias=self.attention_bias, output_bias=self.attention_bias)
        return projections | head_norms(self)


class Gemma(Decoder, frozen=True, kw_only=True):
    num_key_value_heads: Count
    head_dim: Count = 256
    hidden_act: str = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    use_bidirectional_attention: bool | None = None

    activations: ClassVar[frozenset[str]] = frozenset({"gelu", "gelu_pytorch_tanh"})

    def check(self) -> None:
        super().check()
        if self.use_bidirectional_attention:
            message = "attention to later tokens (use_bidirectional_attention) is not supported"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)

    def attention(self) -> Tensors:
        return self.projections(qkv_bias=self.attention_bias, output_bias=self.attention_bias)


class Gemma2(Gemma, frozen=True, kw_only=True):
    hidden_activation: str = "gelu_pytorch_tanh"
    sliding_window: Length | None = 4096

    activations: ClassVar[frozenset[str]] = _GELUS
    norms: ClassVar[tuple[str, ...]] = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )

    def check(self) -> None:
        super().check()
        refuse_uneven(self)

    @property
    def activation(self) -> str:
        return self.hidden_activation

    def window_pattern(self) -> int:
        """Every so many layers one has no window."""
        return 2

    def windows(self) -> list[int | None]:
        pattern = self.window_pattern()
        by_index = [SLIDING if (index + 1) % pattern else FULL for index in range(self.num_hidden_layers)]
        return self.windows_by_type(self.layer_types or by_index, self.sliding_window)


class Gemma3(Gemma2, frozen=True, kw_only=True):
    sliding_window_pattern: Count = 6
    rope_local_base_freq: float | None = None

    def window_pattern(self) -> int:
        return self.sliding_window_pattern

    def attention(self) -> Tensors:
        return super().attention() | head_norms(self)

    def rotary(self) -> Rotary:
        """Layers with a window turn heads in their own way; how far the model reaches is up to those without."""
        stated = self.rope_parameters or {}
        if not stated.keys() <= {FULL, SLIDING}:
            raise invalid_config(f"rope_parameters of the rotary embedding must be given for {FULL} and {SLIDING}")
        full = {"rope_theta": self.rope_theta} | _parameters(stated, FULL) | (self.rope_scaling or {})
        sliding = {"rope_theta": self.rope_local_base_freq} | _parameters(stated, SLIDING)
        rotary, _ = (
            read_rotary(
                parameters,
                head_size=self.head_size,
                max_position_embeddings=self.max_position_embeddings,
                default_fraction=None,
            )
            for parameters in (full, sliding)
        )
        return rotary


class Phi(Decoder, frozen=True, kw_only=True):
    hidden_act: str = "gelu_new"
    qk_layernorm: bool = False

    activations: ClassVar[frozenset[str]] = _GELUS
    rotary_fraction: ClassVar[float | None] = 0.5
    final_norm: ClassVar[str] = "model.final_layernorm"
    has_head_bias: ClassVar[bool] = True
    has_norm_bias: ClassVar[bool] = True
    has_own_head_size: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("input_layernorm",)

    def attention(self) -> Tensors:
        tensors = self.projections(qkv_bias=True, output_bias=True, output="dense")
        if self.qk_layernorm:
            tensors |= norm("self_attn.q_layernorm", self.head_size, bias=True)
            tensors |= norm("self_attn.k_layernorm", self.head_size, bias=True)
        return tensors

    def mlp(self, index: int) -> Tensors:
        hidden, inner = self.hidden_size, self.intermediate_size
        return linear("mlp.fc1", inner, hidden, bias=True) | linear("mlp.fc2", hidden, inner, bias=True)


class Phi3(Decoder, frozen=True, kw_only=True):
    original_max_position_embeddings: Length = 4096
    sliding_window: Length | None = None

    rotary_fraction: ClassVar[float | None] = 1.0
    has_own_head_size: ClassVar[bool] = False

    def rope(self) -> dict[str, Any]:
        rope = super().rope()
        rope_type = rope.pop("rope_type", rope.pop("type", "default"))
        # Early names of longrope in this family, which has no other kind.
        rope_type = "longrope" if rope_type in ("su", "yarn") else rope_type
        if rope_type not in ("default", "longrope"):
            message = f"rotary embeddings of type {str(rope_type)[:40]!r} are not supported in Phi-3, only longrope is"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)
        return rope | {"rope_type": rope_type}

    def windows(self) -> list[int | None]:
        return [self.sliding_window] * self.num_hidden_layers

    def attention(self) -> Tensors:
        query, key_value = self.num_attention_heads * self.head_size, self.num_kv_heads * self.head_size
        fused = linear("self_attn.qkv_proj", query + 2 * key_value, self.hidden_size)
        return fused | linear("self_attn.o_proj", self.hidden_size, query)

    def mlp(self, index: int) -> Tensors:
        hidden, inner = self.hidden_size, self.intermediate_size
        return linear("mlp.gate_up_proj", 2 * inner, hidden) | linear("mlp.down_proj", hidden, inner)


class StableLm(Decoder, frozen=True, kw_only=True):
    num_key_value_heads: Count
    use_qkv_bias: bool = False
    qk_layernorm: bool = False
    use_parallel_residual: bool = False

    rotary_fraction: ClassVar[float | None] = 0.25
    has_norm_bias: ClassVar[bool] = True
    has_own_head_size: ClassVar[bool] = False

    def layer(self, index: int) -> Tensors:
        tensors = super().layer(index)
        if self.use_parallel_residual:
            for part in ("weight", "bias"):
                del tensors[f"post_attention_layernorm.{part}"]
        return tensors

    def attention(self) -> Tensors:
        tensors = self.projections(qkv_bias=self.use_qkv_bias)
        if self.qk_layernorm:
            for name, num_heads in (("q", self.num_attention_heads), ("k", self.num_kv_heads)):
                for head in range(num_heads):
                    tensors |= norm(f"self_attn.{name}_layernorm.norms.{head}", self.head_size)
        return tensors


class GptNeoX(Decoder, frozen=True, kw_only=True):
    hidden_act: str = "gelu"
    attention_bias: bool = True
    rotary_pct: float | None = None
    rotary_emb_base: float | None = None

    activations: ClassVar[frozenset[str]] = _GELUS | {"relu"}
    rotary_fraction: ClassVar[float | None] = 0.25
    embedding: ClassVar[str] = "gpt_neox.embed_in"
    layers: ClassVar[str] = "gpt_neox.layers"
    final_norm: ClassVar[str] = "gpt_neox.final_layer_norm"
    head: ClassVar[str] = "embed_out"
    has_norm_bias: ClassVar[bool] = True
    has_own_head_size: ClassVar[bool] = False
    ignored_buffers: ClassVar[str] = r"attention\.(bias|masked_bias|rotary_emb\.inv_freq)"

    @property
    def num_kv_heads(self) -> int:
        return self.num_attention_heads

    def rope(self) -> dict[str, Any]:
        stated = {"rope_theta": self.rotary_emb_base, "partial_rotary_factor": self.rotary_pct}
        return stated | (self.rope_scaling or self.rope_parameters or {})

    def attention(self) -> Tensors:
        hidden, bias = self.hidden_size, self.attention_bias
        fused = linear("attention.query_key_value", 3 * hidden, hidden, bias=bias)
        return fused | linear("attention.dense", hidden, hidden, bias=bias)

    def mlp(self, index: int) -> Tensors:
        hidden, inner = self.hidden_size, self.intermediate_size
        widening = linear("mlp.dense_h_to_4h", inner, hidden, bias=True)
        return widening | linear("mlp.dense_4h_to_h", hidden, inner, bias=True)


class GptBigCode(Decoder, frozen=True, kw_only=True):
    hidden_act: str = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    multi_query: bool = True
    add_cross_attention: bool = False

    activations: ClassVar[frozenset[str]] = _GELUS
    embedding: ClassVar[str] = "transformer.wte"
    layers: ClassVar[str] = "transformer.h"
    final_norm: ClassVar[str] = "transformer.ln_f"
    has_norm_bias: ClassVar[bool] = True
    has_own_head_size: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("ln_1", "ln_2")
    ignored_buffers: ClassVar[str] = r"attn\.(bias|masked_bias)"

    def check(self) -> None:
        super().check()
        if self.add_cross_attention:
            message = "attention to an encoder (add_cross_attention) is not supported"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)

    @classmethod
    def named(cls, config: dict[str, Any]) -> dict[str, Any]:
        """This family's names are those of GPT-2."""
        names = {
            "n_embd": "hidden_size",
            "n_layer": "num_hidden_layers",
            "n_head": "num_attention_heads",
            "n_positions": "max_position_embeddings",
            "activation_function": "hidden_act",
        }
        renamed = {names.get(name, name): value for name, value in config.items()}
        hidden = renamed.get("hidden_size")
        default = 4 * hidden if isinstance(hidden, int) else None
        return renamed | {"intermediate_size": config.get("n_inner") or default}

    @property
    def num_kv_heads(self) -> int:
        return 1 if self.multi_query else self.num_attention_heads

    def rotary(self) -> None:
        return None

    def tensors(self) -> Tensors:
        return super().tensors() | linear("transformer.wpe", self.max_position_embeddings, self.hidden_size)

    def attention(self) -> Tensors:
        hidden = self.hidden_size
        fused = linear("attn.c_attn", hidden + 2 * self.num_kv_heads * self.head_size, hidden, bias=True)
        return fused | linear("attn.c_proj", hidden, hidden, bias=True)

    def mlp(self, index: int) -> Tensors:
        return _c_mlp(self, bias=True)


class Starcoder2(Decoder, frozen=True, kw_only=True):
    num_key_value_heads: Count
    hidden_act: str = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    use_bias: bool = True
    sliding_window: Length | None = None

    activations: ClassVar[frozenset[str]] = _GELUS
    has_norm_bias: ClassVar[bool] = True

    def windows(self) -> list[int | None]:
        return [self.sliding_window] * self.num_hidden_layers

    def attention(self) -> Tensors:
        return self.projections(qkv_bias=self.use_bias, output_bias=self.use_bias)

    def mlp(self, index: int) -> Tensors:
        return _c_mlp(self, bias=self.use_bias)


def head_norms(decoder: Decoder) -> Tensors:
    return norm("self_attn.q_norm", decoder.head_size) | norm("self_attn.k_norm", decoder.head_size)


def refuse_uneven(decoder: Decoder) -> None:
    """Some config classes want the hidden size to be a multiple of the heads even where heads have their own size."""
    if decoder.hidden_size % decoder.num_attention_heads:
        message = f"hidden_size {decoder.hidden_size} is no multiple of {decoder.num_attention_heads} attention heads"
        raise invalid_config(message)


def _c_mlp(decoder: Decoder, *, bias: bool) -> Tensors:
    hidden, inner = decoder.hidden_size, decoder.intermediate_size
    return linear("mlp.c_fc", inner, hidden, bias=bias) | linear("mlp.c_proj", hidden, inner, bias=bias)


def _parameters(stated: dict[str, Any], layer_type: str) -> dict[str, Any]:
    parameters = stated.get(layer_type) or {}
    if not isinstance(parameters, dict):
        raise invalid_config(f"rope_parameters of the rotary embedding for {layer_type} are no table")
    return parameters
