"""What is known of a model without running it: the result of `inspection.py` or `addons.py`, stored with the model."""

from typing import Literal

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
    full_attention_layers: list[int] = []
    """Layers that the window does not apply to, counted from 0."""

    def window(self, layer: int) -> int | None:
        return None if layer in self.full_attention_layers else self.sliding_window


class FixedSize(msgspec.Struct, frozen=True, kw_only=True, tag="fixed"):
    """Every image is brought to one size."""

    height: int
    width: int
    shortest_edge: int | None = None
    """The image is first scaled until its shorter edge is this long, then cut around its centre; None: stretched."""
    padding: tuple[int, int, int] | None = None
    """Colour with which it is made square before anything else; None: it is not."""


class AreaSize(msgspec.Struct, frozen=True, kw_only=True, tag="area"):
    """Images keep their shape, roughly, and their size within bounds."""

    min_pixels: int
    max_pixels: int
    multiple: int
    """Both edges become multiples of this many pixels."""


class VisionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The half of a vision-language model that sees, and how its text half is told of it."""

    encoder: Literal["clip", "qwen2_vl"]
    text_architecture: str
    """Class name of the text half, which is a model of its own."""
    text_model_type: str
    image_token_id: int
    """Stands in a prompt for each vector that the encoder makes of an image."""
    frame_token_ids: tuple[int, int] | None = None
    """Tokens before and after each image in a prompt."""
    mrope_section: list[int] | None = None
    """Rotary frequencies that turn with time, height and width; None: positions have one dimension."""
    num_parameters: int = 0
    """Of the encoder, which are counted in the model's too."""
    num_layers: int
    hidden_size: int
    intermediate_size: int
    patch_size: int
    merge_size: int = 1
    """So many patches in each direction become one vector."""
    tokens_per_image: int | None = None
    """None: as many as patches of its size, merged."""
    size: FixedSize | AreaSize
    resample: int
    """Pillow's number of the filter that images are scaled with."""
    rescale_factor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


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
    """Of the widest MLP that a token passes."""
    attention: AttentionInfo
    max_context_length: int
    has_chat_template: bool
    supports_tools: bool = False
    """Whether it was made to call tools; others are told of them in words."""
    eos_token_ids: list[int]
    default_sampling: dict[str, float] = {}
    """temperature, top_p, top_k … of generation_config.json."""
    warnings: list[str] = []
    """What was found and ignored, e.g. remote code that will never run."""
    vision: VisionInfo | None = None
    """None: a model that reads text only."""
    file_sha256: dict[str, str] = {}
    """Every file that a worker reads, by name inside the folder."""


class AddonInfo(msgspec.Struct, frozen=True, kw_only=True):
    """LoRA weights that change a base model, as their folder describes them."""

    rank: int
    scaling: float
    """What the product of the two matrices is multiplied by."""
    target_modules: list[str]
    """Kinds of layers that it adapts, e.g. q_proj."""
    dtype: str
    """Dtype of most weight bytes, as stored."""
    num_parameters: int
    weight_bytes: int
    base_model: str = ""
    """As its config names it: a hint for people, often a path on somebody's machine."""
    warnings: list[str] = []
    """What was found and ignored."""
    file_sha256: dict[str, str] = {}
    """Every file that a worker reads, by name inside the folder."""
