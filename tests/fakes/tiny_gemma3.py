"""A tiny random Gemma 3 that reads images too, saved by transformers; its text half is that of `tiny_llm.py`."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from tests.fakes.tiny_llm import VOCAB_SIZE, build_tiny_model, build_tiny_tokenizer

_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def build_tiny_gemma3(directory: Path) -> Path:
    """The whole model; no image processor's config, since nothing here reads it."""
    with TemporaryDirectory() as alone:
        build_tiny_model(Path(alone), "gemma3")
        text = json.loads((Path(alone) / "config.json").read_bytes())
        config = Gemma3Config(
            text_config=text,
            vision_config=_VISION,
            mm_tokens_per_image=4,
            image_token_index=VOCAB_SIZE - 1,
            boi_token_index=VOCAB_SIZE - 2,
            eoi_token_index=VOCAB_SIZE - 3,
            tie_word_embeddings=text["tie_word_embeddings"],
        )
        model = Gemma3ForConditionalGeneration(config)
        half = AutoModelForCausalLM.from_pretrained(alone, dtype=torch.float32)
        model.model.language_model.load_state_dict(half.model.state_dict())
        model.lm_head.load_state_dict(half.lm_head.state_dict())
    model.save_pretrained(directory)
    build_tiny_tokenizer().save_pretrained(directory)
    return directory
