"""All that an engine may decide on, one Struct for each kind of engine; the daemon computes it from deployment and
placement. Its tag is the kind, which picks the engine's class (`runtime/engine.py`).

Imports msgspec and the standard library only.
"""

from typing import Literal

from runtime.message import Value

Dtype = Literal["bfloat16", "float16", "float32"]
AttentionBackend = Literal["auto", "gather"]
KvCacheDtype = Literal["auto", "fp8"]


class Settings(Value, frozen=True, kw_only=True):
    """What every engine is told."""

    device: str
    """torch device inside the worker: `cpu` or `cuda:0`."""
    memory_budget_bytes: int
    """On each of its devices, weights, activations and caches together; the worker keeps inside it."""
    num_threads: int = 0
    """CPU threads for the engine; 0 lets its library decide."""
    max_num_waiting: int = 2048
    """Requests beyond this are refused as overloaded, beyond half of it of one tenant as rate-limited."""


class DraftModel(Value, frozen=True, kw_only=True):
    """A second, small model with the same vocabulary, whose guesses the first one verifies."""

    model_dir: str
    file_sha256: dict[str, str]


class Speculation(Value, frozen=True, kw_only=True):
    """Who guesses tokens ahead for every request, beside each request's own prediction."""

    num_draft_tokens: int = 0
    """Guessed in one step at most; 0: the speculator's own choice."""
    ngram_length: int = 0
    """Guess that what followed so many tokens before follows them again; 0: do not."""
    draft_model: DraftModel | None = None


class LlmSettings(Settings, frozen=True, kw_only=True, tag="llm"):
    """Of a language model: continuous batching over a paged KV cache, which the budget holds too."""

    dtype: Dtype
    num_devices: int = 1
    """Over which the model is divided; `device` is the first of them, and budget and `fixed_bytes` are of each."""
    keeps_fp8: bool = False
    """Weights that are stored in 8-bit floats are multiplied so; False: they are converted to `dtype`."""
    fixed_bytes: int | None = None
    """Of the budget, what is not for KV blocks, as measured earlier; None: the worker estimates it."""
    max_context_length: int
    max_num_requests: int = 256
    """Requests computed in one step at most."""
    max_num_waiting_tokens: int = 2**21
    """Prompt tokens of waiting requests, with the same consequences as `max_num_waiting`."""
    max_batch_tokens: int = 2048
    """Token budget of one step; longer prompts are prefilled in chunks."""
    block_size: int = 32
    """Tokens in one KV block."""
    attention: AttentionBackend = "auto"
    """`gather`: plain torch, the reference, also where something is faster."""
    kv_cache_dtype: KvCacheDtype = "auto"
    """`fp8`: keys and values in 8-bit floats, each with a scale for its token and head; `auto`: in `dtype`."""
    keeps_latents: bool = False
    """Of models that expand keys and values of all heads from a latent, the KV cache holds latents; without addons."""
    enable_prefix_cache: bool = True
    enable_patches: bool = True
    """Layers of transformers are exchanged for ones of fewer operations; False: they stay as they are."""
    enable_kernels: bool = True
    """What is between matrix products is computed by Triton kernels on CUDA, as are addons and experts, and in C on a
    CPU; False: by torch's operations."""
    enable_graphs: bool = True
    """On CUDA, small steps are captured and replayed; False: each is launched kernel by kernel."""
    look_ahead: bool | None = None
    """Launch a step before the tokens of the one before are known here; None: on CUDA, since a CPU gains nothing."""
    speculation: Speculation = Speculation()
    max_num_adapters: int = 0
    """LoRA addons that can be loaded at the same time; 0: none."""
    max_adapter_rank: int = 64


class EmbeddingSettings(Settings, frozen=True, kw_only=True, tag="embedding"):
    """Of an encoder or decoder that makes vectors of texts, or scores of pairs."""

    dtype: Dtype
    max_context_length: int
    """Tokens of one text, special ones included."""
    max_batch_tokens: int = 16384
    """Tokens of one step; padding, where a step has any, included."""
    max_num_waiting_tokens: int = 2**22
    """Of waiting texts, with the same consequences as `max_num_waiting`."""


AUDIO_S_MAX = 4 * 3600.0
"""Of one file; it is what a daemon sets aside of a quota before it knows how long a file lasts."""


class WhisperSettings(Settings, frozen=True, kw_only=True, tag="whisper"):
    """Of a CTranslate2 model of the Whisper family."""

    compute_type: str
    """CTranslate2's name, e.g. `int8`, `float16`, `int8_float32`."""
    max_batch_size: int = 16
    """Windows of up to 30 s that are decoded in one step, of all callers together."""
    max_audio_s: float = AUDIO_S_MAX
    """Of one file."""
    max_audio_bytes: int = 1024**3
    """Of one file as it was sent."""


class DiffusionSettings(Settings, frozen=True, kw_only=True, tag="diffusion"):
    """Of a diffusers pipeline."""

    dtype: Dtype
    max_batch_size: int = 4
    """Pictures of equal shape that are made in one step."""
    max_pixels: int = 2048 * 2048
    """Of one picture."""
    max_num_adapters: int = 0
    """LoRA addons that can be loaded at the same time; 0: none."""


EngineSettings = LlmSettings | EmbeddingSettings | WhisperSettings | DiffusionSettings
