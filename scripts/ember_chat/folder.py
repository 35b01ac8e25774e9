"""Writes the model folder: bf16 safetensors, configuration, tokenizer and chat template, with plain permissions.

The folder is complete or the old one stays: files are written beside it and moved over it.
"""

import tempfile
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.model_folder import replace_folder

TEMPERATURE = 0.2
SIZE_BYTES_MAX = 8 * 1024 * 1024


def write_folder(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        written = Path(name) / directory.name
        model.to(torch.bfloat16).save_pretrained(written)
        tokenizer.save_pretrained(written)
        generation = GenerationConfig(
            do_sample=True,
            temperature=TEMPERATURE,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        generation.save_pretrained(written)
        replace_folder(written, directory, SIZE_BYTES_MAX)
