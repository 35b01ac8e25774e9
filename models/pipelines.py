"""Which diffusers pipelines can be served, and which classes their parts may have: a closed table."""

from typing import Literal, NamedTuple

CLIP_TOKENIZERS = frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")})
T5_TOKENIZERS = frozenset({("transformers", "T5Tokenizer"), ("transformers", "T5TokenizerFast")})

SCHEDULERS = frozenset(
    {
        "DDIMScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    }
)


class Part(NamedTuple):
    classes: frozenset[tuple[str, str]]
    """Library and class, as model_index.json has them."""
    weights: Literal["diffusion_pytorch_model", "model"] = "diffusion_pytorch_model"
    """How its weights' file is called: as diffusers does, or as transformers."""

    def weights_file(self, component: str, variant: str = "") -> str:
        return f"{component}/{self.weights}{variant and f'.{variant}'}.safetensors"

    def weights_index(self, component: str, variant: str = "") -> str:
        return f"{component}/{self.weights}.safetensors.index{variant and f'.{variant}'}.json"


class Pipeline(NamedTuple):
    kind: Literal["sdxl", "flux"]
    denoiser: str
    """The part that runs at every step."""
    parts: dict[str, Part]
    """Those that have weights."""
    tokenizers: tuple[str, ...] = ("tokenizer", "tokenizer_2")

    def tokenizer_classes(self, component: str) -> frozenset[tuple[str, str]]:
        return T5_TOKENIZERS if (self.kind, component) == ("flux", "tokenizer_2") else CLIP_TOKENIZERS


def _diffusers(name: str) -> Part:
    return Part(frozenset({("diffusers", name)}))


def _transformers(name: str) -> Part:
    return Part(frozenset({("transformers", name)}), "model")


PIPELINES = {
    "StableDiffusionXLPipeline": Pipeline(
        "sdxl",
        "unet",
        {
            "unet": _diffusers("UNet2DConditionModel"),
            "vae": _diffusers("AutoencoderKL"),
            "text_encoder": _transformers("CLIPTextModel"),
            "text_encoder_2": _transformers("CLIPTextModelWithProjection"),
        },
    ),
    "FluxPipeline": Pipeline(
        "flux",
        "transformer",
        {
            "transformer": _diffusers("FluxTransformer2DModel"),
            "vae": _diffusers("AutoencoderKL"),
            "text_encoder": _transformers("CLIPTextModel"),
            "text_encoder_2": _transformers("T5EncoderModel"),
        },
    ),
}
"""By the class that model_index.json names."""
