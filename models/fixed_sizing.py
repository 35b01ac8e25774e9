"""How many bytes a model needs whose engine has no KV cache: an embedding, Whisper or diffusion model.

Pure functions, like those of `sizing.py`, and upper bounds until a load was measured. All sizes are bytes.
"""

from typing import assert_never

from models.info import DiffusionInfo, EmbeddingInfo, WhisperInfo
from models.sizing import DTYPE_BYTES, MIB, process_bytes

FixedInfo = EmbeddingInfo | WhisperInfo | DiffusionInfo

_WHISPER_FRAMES = 1500
"""Positions that the encoder makes of a window of 30 s."""
_WHISPER_TOKENS = 448
_WHISPER_BEAMS = 5
_WHISPER_HEAD_SIZE = 64
_IMAGE_WORKSPACE_BYTES = 512 * MIB
"""Of convolutions and matrix products, and pictures on their way out."""
# By counting what lives at once in the pipelines' own code at the released sizes, attention's scores left out: for one
# more picture an SDXL UNet holds 5054 numbers per latent (its width is 1280), a FLUX transformer 51378 per token
# (3072), and both decoders 769 per pixel (256 at the level below the last).
_UNET_WIDTHS, _TRANSFORMER_WIDTHS, _DECODER_WIDTHS = 4, 17, 3
_GUIDED_ROWS = 2
"""With and without the prompt, of every picture at every step."""
_FLUX_TEXT_TOKENS = 512
_LOGIT_ROWS = 32


def fixed_replica_bytes(info: FixedInfo, dtype: str, *, batch_size: int, is_cuda: bool) -> int:
    """Process, weights as `dtype`, and what a step holds. `batch_size`: tokens, windows or pictures of a step."""
    return process_bytes(is_cuda) + served_weight_bytes(info, dtype) + step_bytes(info, dtype, batch_size)


def served_weight_bytes(info: FixedInfo, dtype: str) -> int:
    return info.num_parameters * DTYPE_BYTES.get(dtype, 1)


def step_bytes(info: FixedInfo, dtype: str, batch_size: int) -> int:
    """The most that one step holds beside the weights."""
    # Weights in integers are multiplied in half precision on a GPU; on a CPU the caller says float32.
    itemsize = DTYPE_BYTES.get(dtype, 2)
    match info:
        case EmbeddingInfo():
            return _embedding_step(info, batch_size) * itemsize
        case WhisperInfo():
            return batch_size * _whisper_window(info) * itemsize
        case DiffusionInfo():
            pixels = batch_size * info.default_size**2
            # SDXL's decoder computes in float32 whatever the rest does. One picture may have a whole batch's pixels.
            decoder_itemsize = DTYPE_BYTES["float32"] if info.pipeline == "sdxl" else itemsize
            decoding = pixels * _decoder_numbers(info) * decoder_itemsize
            return max(decoding, _denoising_step(info, batch_size) * itemsize) + _IMAGE_WORKSPACE_BYTES
    assert_never(info)


def _embedding_step(info: EmbeddingInfo, num_tokens: int) -> int:
    """Hidden states in and out; query, key, value and output, or the MLP's widest (gate, up, their product)."""
    per_token = 2 * info.hidden_size + max(4 * info.hidden_size, 3 * info.intermediate_size)
    return num_tokens * per_token + (_LOGIT_ROWS * info.vocab_size if info.has_head else 0)


def _whisper_window(info: WhisperInfo) -> int:
    """Encoder: scores of every position for every other, MLP and attention of one layer. Decoder: keys and values of
    the sound once, of the text for every beam as long as it may become, and a row of logits for each beam.
    """
    hidden, frames = info.hidden_size, _WHISPER_FRAMES
    encoder = max(1, hidden // _WHISPER_HEAD_SIZE) * frames**2 + frames * 16 * hidden
    decoder = info.num_decoder_layers * 2 * hidden * (frames + _WHISPER_BEAMS * _WHISPER_TOKENS)
    return encoder + decoder + _WHISPER_BEAMS * 4 * info.vocab_size


def _denoising_step(info: DiffusionInfo, num_pictures: int) -> int:
    latents = (info.default_size >> (len(info.vae_channels) - 1)) ** 2
    if info.pipeline == "flux":
        return num_pictures * (latents // 4 + _FLUX_TEXT_TOKENS) * _TRANSFORMER_WIDTHS * info.denoiser_width
    rows = num_pictures * _GUIDED_ROWS * latents * _UNET_WIDTHS * info.denoiser_width
    return rows + rows // 2 if info.control_nets else rows


def _decoder_numbers(info: DiffusionInfo) -> int:
    """For each pixel, where the last level begins with the channels of the one below it."""
    return _DECODER_WIDTHS * info.vae_channels[min(1, len(info.vae_channels) - 1)] + 3
