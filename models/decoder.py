"""What the config.json of a decoder says, and which tensors follow: the plain shape, which `families.py` varies.

Fields carry the names and defaults of transformers' config classes; what has no sensible default must be stated.
Checking a config never needs its weights; every refusal names the field at fault.
"""

from typing import Annotated, Any, ClassVar

import msgspec

from models.info import LatentInfo
from models.refusal import CONFIG, ModelRefused, RefusalReason, invalid_config
from models.rotary import Rotary, read_rotary

Tensors = dict[str, tuple[int, ...]]
"""Shapes by name, as stored."""

# Bounds keep later arithmetic and the list of expected tensors small whatever the file says.
Size = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Length = Annotated[int, msgspec.Meta(ge=1, le=2**31)]

FULL, SLIDING = "full_attention", "sliding_attention"


class Decoder(msgspec.Struct, frozen=True, kw_only=True):
    """Attention over rotated heads and a gated MLP, each behind a norm, no biases."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Count
    num_attention_heads: Count
    max_position_embeddings: Length
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    layer_types: list[str] | None = None
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float | None = None
    original_max_position_embeddings: Length | None = None
    eos_token_id: int | list[int] | None = None

    activations: ClassVar[frozenset[str]] = frozenset({"silu", "swish"})
    has_own_head_size: ClassVar[bool] = True
    """Whether `head_dim` may differ from the hidden size over the heads."""
    rotary_fraction: ClassVar[float | None] = None
    """How much of a head is turned unless the config says; None: all of it, whatever the config says."""
    embedding: ClassVar[str] = "model.embed_tokens"
    layers: ClassVar[str] = "model.layers"
    final_norm: ClassVar[str] = "model.norm"
    head: ClassVar[str] = "lm_head"
    has_head_bias: ClassVar[bool] = False
    has_norm_bias: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("input_layernorm", "post_attention_layernorm")
    ignored_buffers: ClassVar[str] = r"self_attn\.rotary_emb\.inv_freq"
    """What old checkpoints store in each layer although it can be computed, as a pattern."""

    def check(self) -> None:
        """Raise ModelRefused for values that contradict one another."""
        if self.activation not in self.activations:
            served = ", ".join(sorted(self.activations))
            raise invalid_config(f"hidden_act {self.activation[:40]!r} is not supported, only {served}")
        if self.num_attention_heads % self.num_kv_heads:
            message = f"{self.num_attention_heads} attention heads cannot share {self.num_kv_heads} key-value heads"
            raise invalid_config(f"{message} evenly")
        size, is_uneven = divmod(self.hidden_size, self.num_attention_heads)
        if is_uneven and (self.head_dim is None or not self.has_own_head_size):
            message = f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} attention heads"
            raise invalid_config(message)
        if self.head_dim not in {None, size} and not self.has_own_head_size:
            raise invalid_config(f"head_dim {self.head_dim} is not the hidden size over the attention heads")

    @classmethod
    def named(cls, config: dict[str, Any]) -> dict[str, Any]:
        """The config under the names of the fields above."""
        return config

    @property
    def activation(self) -> str:
        return self.hidden_act

    @property
    def num_kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Elements of one query or key vector."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def value_head_size(self) -> int:
        return self.head_size

    @property
    def latent(self) -> LatentInfo | None:
        """What keys and values are expanded from; None: from nothing smaller."""
        return None

    @property
    def widest_mlp(self) -> int:
        """Inner size of the widest MLP that a token passes."""
        return self.intermediate_size

    def rotary(self) -> Rotary | None:
        """None: positions are learned."""
        return read_rotary(
            self.rope(),
            head_size=self.head_size,
            max_position_embeddings=self.max_position_embeddings,
            default_fraction=self.rotary_fraction,
            original_length=self.original_max_position_embeddings,
        )

    def rope(self) -> dict[str, Any]:
        """Parameters of the rotary embedding, whether written in the style of transformers 4 or 5."""
        stated = {"rope_theta": self.rope_theta, "partial_rotary_factor": self.partial_rotary_factor}
        return stated | (self.rope_scaling or self.rope_parameters or {})

    def windows(self) -> list[int | None]:
        """By layer: how many keys a query sees, itself included; None: all."""
        return [None] * self.num_hidden_layers

    def tensors(self) -> Tensors:
        """All that the architecture consists of; the head is absent when it is tied."""
        tensors: Tensors = {f"{self.embedding}.weight": (self.vocab_size, self.hidden_size)}
        tensors |= norm(self.final_norm, self.hidden_size, bias=self.has_norm_bias)
        head = linear(self.head, self.vocab_size, self.hidden_size, bias=self.has_head_bias)
        if self.tie_word_embeddings:
            del head[f"{self.head}.weight"]
        tensors |= head
        for index in range(self.num_hidden_layers):
            tensors |= {f"{self.layers}.{index}.{name}": shape for name, shape in self.layer(index).items()}
        return tensors

    def layer(self, index: int) -> Tensors:
        tensors = self.attention() | self.mlp(index)
        for name in self.norms:
            tensors |= norm(name, self.hidden_size, bias=self.has_norm_bias)
        return tensors

    def attention(self) -> Tensors:
        return self.projections()

    def mlp(self, index: int) -> Tensors:
        return gated_mlp("mlp", self.hidden_size, self.intermediate_size)

    def projections(self, *, qkv_bias: bool = False, output_bias: bool = False, output: str = "o_proj") -> Tensors:
        query, key_value = self.num_attention_heads * self.head_size, self.num_kv_heads * self.head_size
        return (
            linear("self_attn.q_proj", query, self.hidden_size, bias=qkv_bias)
            | linear("self_attn.k_proj", key_value, self.hidden_size, bias=qkv_bias)
            | linear("self_attn.v_proj", key_value, self.hidden_size, bias=qkv_bias)
            | linear(f"self_attn.{output}", self.hidden_size, query, bias=output_bias)
        )

    def windows_by_type(self, layer_types: list[str], window: int | None) -> list[int | None]:
        if len(layer_types) != self.num_hidden_layers or not set(layer_types) <= {FULL, SLIDING}:
            message = f"layer_types must name {FULL} or {SLIDING} for each of {self.num_hidden_layers} layers"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)
        if SLIDING in layer_types and not window:
            message = f"layer_types names {SLIDING}, but there is no sliding_window in use"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)
        return [window if layer_type == SLIDING else None for layer_type in layer_types]


def linear(name: str, num_rows: int, num_columns: int, *, bias: bool = False) -> Tensors:
    tensors: Tensors = {f"{name}.weight": (num_rows, num_columns)}
    return tensors | {f"{name}.bias": (num_rows,)} if bias else tensors


def norm(name: str, size: int, *, bias: bool = False) -> Tensors:
    tensors: Tensors = {f"{name}.weight": (size,)}
    return tensors | {f"{name}.bias": (size,)} if bias else tensors


def gated_mlp(name: str, hidden: int, inner: int, *, bias: bool = False) -> Tensors:
    return (
        linear(f"{name}.gate_proj", inner, hidden, bias=bias)
        | linear(f"{name}.up_proj", inner, hidden, bias=bias)
        | linear(f"{name}.down_proj", hidden, inner, bias=bias)
    )
