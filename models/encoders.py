"""The encoders that make vectors of texts: what their config.json says, and which tensors follow.

Names and defaults are those of transformers' config classes. A family is served when its vectors were compared with
sentence-transformers', not when it looks similar.
"""

from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec

from models.decoder import Count, Length, Size, Tensors, gated_mlp, linear, norm
from models.refusal import CONFIG, ModelRefused, RefusalReason, invalid_config

SEQUENCE_CLASSIFICATION = "ForSequenceClassification"
"""What the class of a cross-encoder ends with."""


class Encoder(msgspec.Struct, frozen=True, kw_only=True):
    """BERT: learned positions, attention over all tokens, a norm after each half of a layer, biases everywhere."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Count
    num_attention_heads: Count
    max_position_embeddings: Length = 512
    type_vocab_size: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 2
    pad_token_id: Annotated[int, msgspec.Meta(ge=0, le=2**24)] | None = 0
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    num_labels: int | None = None
    id2label: dict[str, str] | None = None

    class_name: ClassVar[str] = "Bert"
    prefix: ClassVar[str] = "bert."
    """Before the encoder's tensors in a file that holds a head too."""

    @classmethod
    def named(cls, config: dict[str, Any]) -> dict[str, Any]:
        """The config under the names of the fields above."""
        return config

    def check(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            message = f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} attention heads"
            raise invalid_config(message)
        if self.is_decoder or self.position_embedding_type != "absolute":
            message = "is_decoder and position_embedding_type other than 'absolute' are not supported in an encoder"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ATTENTION, message, CONFIG)

    @property
    def reach(self) -> int:
        """Tokens of the longest text that it can read."""
        return self.max_position_embeddings

    @property
    def label_count(self) -> int:
        """As transformers counts them: two when nothing is said."""
        if self.num_labels is not None:
            return self.num_labels
        return 2 if self.id2label is None else len(self.id2label)

    def layouts(self) -> list[Tensors]:
        """Ways in which released files store the encoder; the first is how transformers does."""
        tensors = self.embeddings()
        for index in range(self.num_hidden_layers):
            tensors |= {f"encoder.layer.{index}.{name}": shape for name, shape in self.layer().items()}
        return [tensors]

    def embeddings(self) -> Tensors:
        return (
            {"embeddings.word_embeddings.weight": (self.vocab_size, self.hidden_size)}
            | {"embeddings.position_embeddings.weight": (self.max_position_embeddings, self.hidden_size)}
            | {"embeddings.token_type_embeddings.weight": (self.type_vocab_size, self.hidden_size)}
            | norm("embeddings.LayerNorm", self.hidden_size, bias=True)
        )

    def layer(self) -> Tensors:
        hidden, inner = self.hidden_size, self.intermediate_size
        tensors: Tensors = {}
        for name in ("query", "key", "value"):
            tensors |= linear(f"attention.self.{name}", hidden, hidden, bias=True)
        tensors |= linear("attention.output.dense", hidden, hidden, bias=True)
        tensors |= norm("attention.output.LayerNorm", hidden, bias=True)
        tensors |= linear("intermediate.dense", inner, hidden, bias=True)
        return tensors | linear("output.dense", hidden, inner, bias=True) | norm("output.LayerNorm", hidden, bias=True)

    def scoring_head(self) -> Tensors:
        """Of a cross-encoder."""
        hidden = self.hidden_size
        return linear(f"{self.prefix}pooler.dense", hidden, hidden, bias=True) | linear(
            "classifier", 1, hidden, bias=True
        )


class Roberta(Encoder, frozen=True, kw_only=True):
    """Positions are counted from behind the padding token's id."""

    pad_token_id: Annotated[int, msgspec.Meta(ge=0, le=2**24)] | None = 1

    class_name: ClassVar[str] = "Roberta"
    prefix: ClassVar[str] = "roberta."

    @property
    def reach(self) -> int:
        return self.max_position_embeddings - (self.pad_token_id or 0) - 1

    def check(self) -> None:
        super().check()
        if self.reach < 1:
            raise invalid_config("max_position_embeddings leaves no position behind pad_token_id")

    def scoring_head(self) -> Tensors:
        hidden = self.hidden_size
        return linear("classifier.dense", hidden, hidden, bias=True) | linear(
            "classifier.out_proj", 1, hidden, bias=True
        )


class XlmRoberta(Roberta, frozen=True, kw_only=True):
    class_name: ClassVar[str] = "XLMRoberta"


class Mpnet(Roberta, frozen=True, kw_only=True):
    relative_attention_num_buckets: Count = 32

    class_name: ClassVar[str] = "MPNet"
    prefix: ClassVar[str] = "mpnet."

    def embeddings(self) -> Tensors:
        tensors = super().embeddings()
        del tensors["embeddings.token_type_embeddings.weight"]
        shape = (self.relative_attention_num_buckets, self.num_attention_heads)
        return tensors | {"encoder.relative_attention_bias.weight": shape}

    def layer(self) -> Tensors:
        hidden, inner = self.hidden_size, self.intermediate_size
        tensors: Tensors = {}
        for name in "qkvo":
            tensors |= linear(f"attention.attn.{name}", hidden, hidden, bias=True)
        tensors |= norm("attention.LayerNorm", hidden, bias=True)
        tensors |= linear("intermediate.dense", inner, hidden, bias=True)
        return tensors | linear("output.dense", hidden, inner, bias=True) | norm("output.LayerNorm", hidden, bias=True)


class DistilBert(Encoder, frozen=True, kw_only=True):
    class_name: ClassVar[str] = "DistilBert"
    prefix: ClassVar[str] = "distilbert."

    @classmethod
    def named(cls, config: dict[str, Any]) -> dict[str, Any]:
        names = {
            "dim": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "hidden_dim": "intermediate_size",
        }
        return config | {ours: config[theirs] for theirs, ours in names.items() if theirs in config}

    def layouts(self) -> list[Tensors]:
        tensors = self.embeddings()
        del tensors["embeddings.token_type_embeddings.weight"]
        for index in range(self.num_hidden_layers):
            tensors |= {f"transformer.layer.{index}.{name}": shape for name, shape in self.layer().items()}
        return [tensors]

    def layer(self) -> Tensors:
        hidden, inner = self.hidden_size, self.intermediate_size
        tensors: Tensors = {}
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            tensors |= linear(f"attention.{name}", hidden, hidden, bias=True)
        tensors |= norm("sa_layer_norm", hidden, bias=True) | norm("output_layer_norm", hidden, bias=True)
        return tensors | linear("ffn.lin1", inner, hidden, bias=True) | linear("ffn.lin2", hidden, inner, bias=True)

    def scoring_head(self) -> Tensors:
        hidden = self.hidden_size
        return linear("pre_classifier", hidden, hidden, bias=True) | linear("classifier", 1, hidden, bias=True)


class NomicBert(Encoder, frozen=True, kw_only=True):
    """Rotated positions and a gated MLP, without biases. Its first files have names of their own."""

    max_position_embeddings: Length = 2048

    class_name: ClassVar[str] = "NomicBert"
    prefix: ClassVar[str] = "nomic_bert."

    @classmethod
    def named(cls, config: dict[str, Any]) -> dict[str, Any]:
        names = {
            "n_embd": "hidden_size",
            "n_layer": "num_hidden_layers",
            "n_head": "num_attention_heads",
            "n_inner": "intermediate_size",
            "n_positions": "max_position_embeddings",
        }
        return {ours: config[theirs] for theirs, ours in names.items() if theirs in config} | config

    def embeddings(self) -> Tensors:
        tensors = super().embeddings()
        del tensors["embeddings.position_embeddings.weight"]
        return tensors

    def layouts(self) -> list[Tensors]:
        today = self.embeddings()
        first = {name.replace("embeddings.LayerNorm", "emb_ln"): shape for name, shape in today.items()}
        for index in range(self.num_hidden_layers):
            today |= {f"layers.{index}.{name}": shape for name, shape in self.layer().items()}
            first |= {f"encoder.layers.{index}.{name}": shape for name, shape in self._first_layer().items()}
        return [today, first]

    def layer(self) -> Tensors:
        hidden = self.hidden_size
        tensors = gated_mlp("mlp", hidden, self.intermediate_size)
        for name in "qkvo":
            tensors |= linear(f"self_attn.{name}_proj", hidden, hidden)
        for name in ("post_attention_layernorm", "post_mlp_layernorm"):
            tensors |= norm(name, hidden, bias=True)
        return tensors

    def _first_layer(self) -> Tensors:
        hidden, inner = self.hidden_size, self.intermediate_size
        tensors = linear("attn.Wqkv", 3 * hidden, hidden) | linear("attn.out_proj", hidden, hidden)
        tensors |= linear("mlp.fc11", inner, hidden) | linear("mlp.fc12", inner, hidden)
        tensors |= linear("mlp.fc2", hidden, inner)
        return tensors | norm("norm1", hidden, bias=True) | norm("norm2", hidden, bias=True)


class ModernBert(Encoder, frozen=True, kw_only=True):
    """Rotated positions, windows in most layers, a norm before each half of a layer."""

    max_position_embeddings: Length = 8192
    attention_bias: bool = False
    mlp_bias: bool = False
    norm_bias: bool = False
    classifier_bias: bool = False

    class_name: ClassVar[str] = "ModernBert"
    prefix: ClassVar[str] = "model."

    def layouts(self) -> list[Tensors]:
        hidden, inner = self.hidden_size, self.intermediate_size
        tensors: Tensors = {"embeddings.tok_embeddings.weight": (self.vocab_size, hidden)}
        tensors |= norm("embeddings.norm", hidden, bias=self.norm_bias) | norm(
            "final_norm", hidden, bias=self.norm_bias
        )
        layer = linear("attn.Wqkv", 3 * hidden, hidden, bias=self.attention_bias)
        layer |= linear("attn.Wo", hidden, hidden, bias=self.attention_bias)
        layer |= linear("mlp.Wi", 2 * inner, hidden, bias=self.mlp_bias)
        layer |= linear("mlp.Wo", hidden, inner, bias=self.mlp_bias)
        layer |= norm("mlp_norm", hidden, bias=self.norm_bias)
        for index in range(self.num_hidden_layers):
            named = layer if index == 0 else layer | norm("attn_norm", hidden, bias=self.norm_bias)
            tensors |= {f"layers.{index}.{name}": shape for name, shape in named.items()}
        return [tensors]

    def scoring_head(self) -> Tensors:
        hidden = self.hidden_size
        return (
            linear("head.dense", hidden, hidden, bias=self.classifier_bias)
            | norm("head.norm", hidden, bias=self.norm_bias)
            | linear("classifier", 1, hidden, bias=True)
        )


ENCODERS: dict[str, type[Encoder]] = {
    "bert": Encoder,
    "distilbert": DistilBert,
    "modernbert": ModernBert,
    "mpnet": Mpnet,
    "nomic_bert": NomicBert,
    "roberta": Roberta,
    "xlm-roberta": XlmRoberta,
}
"""By model type."""


class EncoderConfig(NamedTuple):
    """A checked config.json of an encoder, alone or under the head of a cross-encoder."""

    architecture: str
    model_type: str
    encoder: Encoder
    is_cross_encoder: bool


def is_encoder(config: dict[str, Any]) -> bool:
    return config.get("model_type") in ENCODERS


def read_encoder(config: dict[str, Any]) -> EncoderConfig:
    """Raises ModelRefused naming the field at fault."""
    model_type = config["model_type"]
    family = ENCODERS[model_type]
    try:
        encoder = msgspec.convert(family.named(config), family)
    except msgspec.ValidationError as error:
        raise invalid_config(str(error)) from error
    encoder.check()
    match config.get("architectures"):
        case [str(name)] if name.startswith(family.class_name):
            is_cross_encoder = name.endswith(SEQUENCE_CLASSIFICATION)
        case _:
            raise invalid_config(f"architectures does not name exactly one architecture of the type {model_type!r}")
    if is_cross_encoder and encoder.label_count != 1:
        message = f"a cross-encoder has one label, this one {encoder.label_count} (id2label)"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, CONFIG)
    architecture = family.class_name + (SEQUENCE_CLASSIFICATION if is_cross_encoder else "Model")
    return EncoderConfig(architecture, model_type, encoder, is_cross_encoder)
