"""What is known of a model without running it: the result of `inspection.py` or `addons.py`, stored with the model."""

from typing import Literal

import msgspec


class LatentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer makes its keys and values of, the same for all heads."""

    size: int
    """Elements that keys and values of all heads are expanded from."""
    rotated_size: int
    """Elements that every head's key ends with, as they are."""


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
    latent: LatentInfo | None = None
    """None: keys and values are not expanded from anything smaller."""
    has_values_in_keys: bool = False
    """Whether a value is the first part of its key, and not stored beside it."""

    @property
    def part_sizes(self) -> list[int]:
        """Of the two that are stored for a token and KV head: key and value, or what is both and the key's rest."""
        if self.has_values_in_keys:
            return [self.value_head_size, self.head_size - self.value_head_size]
        return [self.head_size, self.value_head_size]

    def window(self, layer: int) -> int | None:
        return None if layer in self.full_attention_layers else self.sliding_window

    def compressed(self) -> "AttentionInfo":
        """Where a latent is kept instead of keys and values: as one key that all heads share, its own value."""
        if self.latent is None:
            return self
        return msgspec.structs.replace(
            self,
            num_kv_heads=1,
            head_size=self.latent.size + self.latent.rotated_size,
            value_head_size=self.latent.size,
            latent=None,
            has_values_in_keys=True,
        )


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


class ServedInfo(msgspec.Struct, frozen=True, kw_only=True, tag_field="engine"):
    """What is known of every model that an engine can load; the tag says which one."""

    architecture: str
    """Class name from its config, e.g. LlamaForCausalLM, StableDiffusionXLPipeline."""
    model_type: str
    dtype: str
    """Dtype of most weight bytes: bfloat16, float16, float32, or int8 of a CTranslate2 model."""
    num_parameters: int
    weight_bytes: int
    """Sum over all tensors as stored."""
    max_context_length: int = 0
    """Tokens of text; 0: it takes none."""
    warnings: list[str] = []
    """What was found and ignored, e.g. remote code that will never run."""
    file_sha256: dict[str, str] = {}
    """Every file that a worker reads, by name inside the folder, with `/` where it lies in a folder of that."""


Fp8Layout = Literal["row", "block"]
"""What shares a scale: a row of a weight, or a block of 128 × 128."""


class Fp8Info(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that are stored in 8-bit floats, with scales beside them."""

    layout: Fp8Layout
    num_parameters: int
    """That are stored so."""
    num_staying_parameters: int
    """Of those, what stays so where the device multiplies 8-bit floats; the rest is converted while loading."""
    num_staying_rows: int
    """Of the weights that stay: each has a scale."""


class ModelInfo(ServedInfo, frozen=True, kw_only=True, tag="llm"):
    """A language model's checkpoint, as its folder describes it."""

    tied_embeddings: bool
    vocab_size: int
    """Rows of the logits, at least the tokenizer's size."""
    hidden_size: int
    intermediate_size: int
    """Of the widest MLP that a token passes."""
    attention: AttentionInfo
    has_chat_template: bool
    supports_tools: bool = False
    """Whether it was made to call tools; others are told of them in words."""
    eos_token_ids: list[int]
    default_sampling: dict[str, float] = {}
    """temperature, top_p, top_k … of generation_config.json."""
    vision: VisionInfo | None = None
    """None: a model that reads text only."""
    fp8: Fp8Info | None = None
    """None: nothing is quantised. `dtype` is that of the other weights, and `num_parameters` counts no scales."""

    def compressed(self) -> "ModelInfo":
        """Where latents are kept instead of keys and values, if it has any."""
        return msgspec.structs.replace(self, attention=self.attention.compressed())


Pooling = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", "none"]
"""sentence-transformers' names; `none`: there is no vector, only a score."""


class DenseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A linear layer between pooling and vector, in a folder of its own as `linear.weight` and `linear.bias`."""

    folder: str
    num_inputs: int
    num_outputs: int
    has_bias: bool
    activation: Literal["identity", "tanh", "gelu", "relu", "sigmoid"]


class EmbeddingInfo(ServedInfo, frozen=True, kw_only=True, tag="embedding"):
    """A model that makes a vector of a text, or a score of a pair of texts."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_dimensions: int
    """Of a vector, after all of its modules; 1 where it makes scores only."""
    pooling: Pooling
    includes_prompt: bool = True
    """Whether the tokens of a prompt are pooled too."""
    dense: list[DenseInfo] = []
    """In their order, after pooling."""
    is_normalized: bool = False
    """Whether its vectors have length 1."""
    is_decoder: bool = False
    """Whether a token sees only those before it."""
    prompts: dict[str, str] = {}
    """Text put before an input, by name, e.g. `query: `."""
    default_prompt: str = ""
    """Name of the one that is used when nobody says; empty: none."""
    is_lowercased: bool = False
    """Whether text is to be lowercased before it is tokenised, whatever the tokeniser does."""
    score_activation: Literal["sigmoid", "identity"] = "sigmoid"
    """What its makers had a cross-encoder's logit go through."""
    has_head: bool = False
    """Of a decoder: whether it tells the logits of the next token."""
    true_token_id: int | None = None
    """Of a decoder that scores: its logit for this token is the score, less the one for the next."""
    false_token_id: int | None = None


class WhisperInfo(ServedInfo, frozen=True, kw_only=True, tag="whisper"):
    """A CTranslate2 folder of the Whisper family."""

    is_multilingual: bool
    vocab_size: int = 0
    num_mel_bins: int
    num_encoder_layers: int
    num_decoder_layers: int
    hidden_size: int


class DiffusionInfo(ServedInfo, frozen=True, kw_only=True, tag="diffusion"):
    """A diffusers folder."""

    pipeline: Literal["sdxl", "flux"]
    components: dict[str, int]
    """Stored weight bytes by component, e.g. unet, vae, text_encoder."""
    control_nets: list[str] = []
    """Names of the ControlNets in folders of their own, `controlnet/NAME`."""
    default_size: int = 1024
    """Pixels of each edge of a picture when nobody says."""
    is_distilled: bool = False
    """Whether it was made for few steps and no guidance, like FLUX.1 schnell."""
    variant: str = ""
    """Of its weights' names, as diffusers has it: `fp16` for `diffusion_pytorch_model.fp16.safetensors`."""
    has_safety_checker: bool = False
    """Whether it has one in the folder `safety_checker`."""
    denoiser_width: int = 0
    """Numbers in the widest hidden state of a position."""
    vae_channels: list[int] = []
    """Of its decoder's levels, the one with the most pixels first."""


AnyServedInfo = ModelInfo | EmbeddingInfo | WhisperInfo | DiffusionInfo


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
