"""Tiny random vision-language models in Hugging Face folders, saved by transformers itself.

Their text halves and tokenizer are those of `tiny_llm.py`, with four tokens more: one stands for an image, two frame
it, one does nothing. Images are 28 pixels wide and high at LLaVA's, and of any size at Qwen2-VL's.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from tests.fakes.tiny_llm import BOS_TOKEN_ID, END_TOKEN_ID, VOCAB_SIZE, build_tiny_tokenizer

VisionFamily = Literal["llava", "qwen2_vl"]

IMAGE_TOKENS: dict[VisionFamily, str] = {"llava": "<image>", "qwen2_vl": "<|image_pad|>"}
IMAGE_TOKEN_ID, START_TOKEN_ID, STOP_TOKEN_ID = VOCAB_SIZE, VOCAB_SIZE + 1, VOCAB_SIZE + 2
IMAGE_EDGE = 28
"""Of what tiny LLaVA sees: 16 patches."""
PATCH_SIZE = 7

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|turn|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {{- 'IMAGE' if part.type == 'image' else part.text }}
        {%- endfor %}
    {%- endif %}
    {{- '<|endoftext|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|turn|>assistant\\n' }}
{%- endif %}
"""

_TEXT: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE + 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": BOS_TOKEN_ID,
    "eos_token_id": END_TOKEN_ID,
    "pad_token_id": None,
}
_PROCESSORS: dict[VisionFamily, dict[str, Any]] = {
    "llava": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": IMAGE_EDGE},
        "crop_size": {"height": IMAGE_EDGE, "width": IMAGE_EDGE},
    },
    "qwen2_vl": {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": PATCH_SIZE,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 4 * (2 * PATCH_SIZE) ** 2,
        "max_pixels": 40 * (2 * PATCH_SIZE) ** 2,
    },
}


def build_tiny_vlm(directory: Path, family: VisionFamily, *, seed: int = 0) -> Path:
    """Write config, weights, image processor's config, tokenizer and chat template."""
    model = _llava() if family == "llava" else _qwen()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_gain else 0.3 * noise)
    model.save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(_PROCESSORS[family]))
    tokenizer = build_tiny_tokenizer(adds_bos=family == "llava")
    tokenizer.add_tokens([IMAGE_TOKENS[family], "<|start|>", "<|stop|>", "<|nothing|>"], special_tokens=True)
    framed = IMAGE_TOKENS[family] if family == "llava" else f"<|start|>{IMAGE_TOKENS[family]}<|stop|>"
    tokenizer.chat_template = CHAT_TEMPLATE.replace("IMAGE", framed)
    tokenizer.save_pretrained(directory)
    return directory


def _llava() -> Any:
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": IMAGE_EDGE,
        "patch_size": PATCH_SIZE,
        "projection_dim": 32,
    }
    text = {"model_type": "llama", **_TEXT}
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN_ID)
    )


def _qwen() -> Any:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": PATCH_SIZE}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    text = {**_TEXT, "rope_parameters": rope}
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=IMAGE_TOKEN_ID,
            vision_start_token_id=START_TOKEN_ID,
            vision_end_token_id=STOP_TOKEN_ID,
            tie_word_embeddings=True,
        )
    )
