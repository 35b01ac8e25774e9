import pytest

from models.fixed_sizing import fixed_replica_bytes, served_weight_bytes, step_bytes
from models.info import DiffusionInfo, EmbeddingInfo, WhisperInfo

GIB = 2**30

E5_LARGE = EmbeddingInfo(
    architecture="XLMRobertaModel",
    model_type="xlm-roberta",
    dtype="float32",
    num_parameters=559_890_432,
    weight_bytes=2_239_561_728,
    vocab_size=250_002,
    hidden_size=1024,
    intermediate_size=4096,
    num_layers=24,
    num_heads=16,
    num_dimensions=1024,
    pooling="mean",
)
LARGE_V3 = WhisperInfo(
    architecture="WhisperForConditionalGeneration",
    model_type="whisper",
    dtype="float16",
    num_parameters=1_543_490_560,
    weight_bytes=3_086_981_120,
    is_multilingual=True,
    vocab_size=51_866,
    num_mel_bins=128,
    num_encoder_layers=32,
    num_decoder_layers=32,
    hidden_size=1280,
)
SDXL = DiffusionInfo(
    architecture="StableDiffusionXLPipeline",
    model_type="sdxl",
    dtype="float16",
    num_parameters=3_468_843_127,
    weight_bytes=6_937_686_254,
    pipeline="sdxl",
    components={},
    denoiser_width=1280,
    vae_channels=[128, 256, 512, 512],
)
FLUX = DiffusionInfo(
    architecture="FluxPipeline",
    model_type="flux",
    dtype="bfloat16",
    num_parameters=16_870_000_000,
    weight_bytes=33_740_000_000,
    pipeline="flux",
    components={},
    denoiser_width=3072,
    vae_channels=[128, 256, 512, 512],
)


def test_weights_take_what_their_dtype_takes() -> None:
    assert served_weight_bytes(E5_LARGE, "float16") == 2 * E5_LARGE.num_parameters
    assert served_weight_bytes(LARGE_V3, "int8") == LARGE_V3.num_parameters


@pytest.mark.parametrize(
    ("info", "dtype", "batch_size", "least", "most"),
    [
        # 16384 tokens × (gate-less MLP 2 × 4096 + 2 × 1024) × 2 bytes is what transformers' layer holds at once.
        (E5_LARGE, "float16", 16384, 16384 * 10_240 * 2, 0.5 * GIB),
        # 20 heads × 1500² scores in float32, then keys and values of 32 layers.
        (LARGE_V3, "float32", 1, 20 * 1500**2 * 4 + 32 * 2 * 1500 * 1280 * 4, 1.6 * GIB),
        # The decoder at 1024 × 1024 in float32: 3,225,681,920 bytes live at once.
        (SDXL, "float16", 1, 3_225_681_920, 4 * GIB),
        # The same in bfloat16 is 1,613,234,176.
        (FLUX, "bfloat16", 1, 1_613_234_176, 2.1 * GIB),
    ],
)
def test_a_step_holds_what_the_released_models_hold(
    info: EmbeddingInfo | WhisperInfo | DiffusionInfo, dtype: str, batch_size: int, least: float, most: float
) -> None:
    assert least <= step_bytes(info, dtype, batch_size) <= most


@pytest.mark.parametrize("info", [E5_LARGE, LARGE_V3, SDXL, FLUX])
def test_more_takes_more(info: EmbeddingInfo | WhisperInfo | DiffusionInfo) -> None:
    one, two = (step_bytes(info, "float16", batch_size) for batch_size in (1, 2))
    assert one < two <= 2 * one
    assert step_bytes(info, "float16", 1) <= step_bytes(info, "float32", 1)
    whole = fixed_replica_bytes(info, "float16", batch_size=1, is_cuda=True)
    assert whole > one + served_weight_bytes(info, "float16")


def test_integers_never_need_more_than_what_they_are_computed_in() -> None:
    """The daemon reckons with the dtype that is computed in, the worker with that of the weights."""
    assert fixed_replica_bytes(LARGE_V3, "int8", batch_size=8, is_cuda=True) <= fixed_replica_bytes(
        LARGE_V3, "float16", batch_size=8, is_cuda=True
    )


def test_models_of_no_size_that_makes_sense_have_a_size_too() -> None:
    tiny = DiffusionInfo(
        architecture="",
        model_type="",
        dtype="float32",
        num_parameters=1,
        weight_bytes=4,
        pipeline="sdxl",
        components={},
        default_size=8,
        denoiser_width=8,
        vae_channels=[8],
    )
    assert step_bytes(tiny, "float32", 1) > 0
