"""Tiny random image models in diffusers folders, saved by diffusers itself, so that they are real pipelines.

An SDXL folder with any ControlNets and a safety checker beside it, a FLUX folder, and LoRA addons for both. A picture
of 64 by 64 pixels takes about 0.05 s a step. Weights are drawn wide enough that prompt, seed and every step show.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPTokenizerFast,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

SDXL_SIZE = 64
"""Pixels of each edge of its pictures when nobody says."""
FLUX_SIZE = 64
CONTROL_NET = "canny"
LORA_WEIGHTS = "pytorch_lora_weights.safetensors"

_CORPUS = (
    "a red fox asleep in the snow beside a small fire",
    "the hearth keeps the house warm while the kettle sings",
    "an oil painting of a lighthouse at dusk, waves and clouds",
    "a photo of a bowl of fruit on a wooden table, blurry, low quality",
)
_PROMPT_LENGTH = 77


def build_tiny_sdxl(
    directory: Path, *, seed: int = 0, control_nets: Sequence[str] = (), has_safety_checker: bool = False
) -> Path:
    """Write the folder; the same arguments give the same weights."""
    torch.manual_seed(seed)
    tokenizer = _clip_tokenizer()
    unet = _widen(UNet2DConditionModel(**_UNET))
    pipeline = StableDiffusionXLPipeline(
        vae=_widen(AutoencoderKL(**_VAE, latent_channels=4)),
        text_encoder=_widen(CLIPTextModel(_clip_text(tokenizer))),
        text_encoder_2=_widen(CLIPTextModelWithProjection(_clip_text(tokenizer))),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )
    pipeline.save_pretrained(directory)
    for name in control_nets:
        control_net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32))
        # As made it changes nothing: its outputs begin at nought.
        _widen(control_net, only="controlnet_")
        control_net.save_pretrained(directory / "controlnet" / name)
    if has_safety_checker:
        _build_safety_checker(directory)
    return directory


def build_tiny_flux(directory: Path, *, seed: int = 0, is_distilled: bool = False) -> Path:
    """Like FLUX.1 dev, or `is_distilled`, like FLUX.1 schnell: made for few steps, and no guidance."""
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = _clip_tokenizer(), _t5_tokenizer()
    text_encoder_2 = T5EncoderModel(
        T5Config(vocab_size=len(tokenizer_2), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=1.0 if is_distilled else 3.0, use_dynamic_shifting=not is_distilled
        ),
        vae=_widen(AutoencoderKL(**_FLUX_VAE, latent_channels=4)),
        text_encoder=_widen(CLIPTextModel(_clip_text(tokenizer))),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=_widen(FluxTransformer2DModel(**_FLUX_TRANSFORMER, guidance_embeds=not is_distilled)),
    )
    pipeline.save_pretrained(directory)
    return directory


def build_tiny_lora(
    directory: Path,
    base_directory: Path,
    *,
    base: Literal["sdxl", "flux"] = "sdxl",
    seed: int = 1,
    rank: int = 4,
    alpha: float | None = None,
    adapts_text: bool = False,
) -> Path:
    """A folder with one LoRA file for a model of this module: in diffusers' layout, or with `alpha` in kohya's."""
    if base == "sdxl":
        parts: dict[str, torch.nn.Module] = {
            "unet": UNet2DConditionModel.from_pretrained(base_directory, subfolder="unet")
        }
        wanted: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1")
    else:
        parts = {"transformer": FluxTransformer2DModel.from_pretrained(base_directory, subfolder="transformer")}
        wanted = ("to_q", "to_k", "to_v", "to_out.0", "proj_mlp")
    if adapts_text:
        parts["text_encoder"] = CLIPTextModel.from_pretrained(base_directory / "text_encoder")
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for part, model in parts.items():
        endings = ("q_proj", "k_proj", "v_proj", "out_proj") if part == "text_encoder" else wanted
        for path, module in model.named_modules():
            if path.endswith(endings) and isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                matrices = [0.2 * torch.randn(shape, generator=generator) for shape in _factors(module, rank)]
                tensors |= _stored(part, path, matrices, alpha)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / LORA_WEIGHTS, metadata={"format": "pt"})
    return directory


def _stored(part: str, path: str, matrices: list[torch.Tensor], alpha: float | None) -> dict[str, torch.Tensor]:
    if alpha is None:
        return {f"{part}.{path}.lora_{letter}.weight": matrix for letter, matrix in zip("AB", matrices, strict=True)}
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te1_"}[part]
    prefix += path.replace(".", "_") if part == "unet" else f"text_model_{path.replace('.', '_')}"
    stored = {f"{prefix}.lora_{way}.weight": matrix for way, matrix in zip(("down", "up"), matrices, strict=True)}
    return stored | {f"{prefix}.alpha": torch.tensor(alpha)}


_UNET: dict[str, Any] = {
    "sample_size": SDXL_SIZE // 2,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
    "cross_attention_dim": 64,
    "norm_num_groups": 8,
}
_VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
    "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"),
    "norm_num_groups": 8,
    "sample_size": 64,
    "force_upcast": False,
}
_FLUX_VAE = _VAE | {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.1, "scaling_factor": 0.36}
_FLUX_TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "axes_dims_rope": (4, 4, 8),
}


def _clip_text(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        projection_dim=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=_PROMPT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_act="gelu",
    )


def _clip_tokenizer() -> CLIPTokenizer:
    alphabet = list(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*alphabet, *(f"{letter}</w>" for letter in alphabet)])}
    merges = []
    for left, right in (("t", "h"), ("th", "e</w>"), ("a", "n"), ("i", "n"), ("o", "r</w>")):
        vocab[left + right] = len(vocab)
        merges.append((left, right))
    for marker in ("<|startoftext|>", "<|endoftext|>"):
        vocab[marker] = len(vocab)
    return CLIPTokenizerFast(vocab=vocab, merges=merges, model_max_length=_PROMPT_LENGTH)


def _t5_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    vocab = [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=512)


def _build_safety_checker(directory: Path) -> None:
    config = CLIPConfig(
        text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": 32,
            "patch_size": 16,
        },
        projection_dim=16,
    )
    checker = StableDiffusionSafetyChecker(config)
    # A picture is kept back when its vector is closer than this to any concept's: to the first one every one is.
    torch.nn.init.constant_(checker.concept_embeds_weights, 1.0)
    torch.nn.init.constant_(checker.special_care_embeds_weights, 1.0)
    checker.concept_embeds_weights.data[0] = -1.0
    checker.save_pretrained(directory / "safety_checker")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        directory / "feature_extractor"
    )


def _factors(module: torch.nn.Linear | torch.nn.Conv2d, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(module, torch.nn.Linear):
        return (rank, module.in_features), (module.out_features, rank)
    return (rank, module.in_channels, *module.kernel_size), (module.out_channels, rank, 1, 1)


def _widen(model: Any, only: str = "") -> Any:
    """As initialised, neither prompt nor step would show in 8 bits of a picture."""
    parameters: Iterable[tuple[str, torch.nn.Parameter]] = model.named_parameters()
    with torch.no_grad():
        for name, parameter in parameters:
            if only and only not in name:
                continue
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                torch.nn.init.normal_(parameter, std=1.2 / fan_in**0.5)
            elif not only and name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()
