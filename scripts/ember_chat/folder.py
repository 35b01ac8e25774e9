"""Writes the model folder: bf16 safetensors, configuration, tokenizer and chat template, with plain permissions.

The folder is complete or the old one stays: files are written beside it and moved over it.
"""

import shutil
import tempfile
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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
        for path in written.iterdir():
            path.chmod(0o644)
        size_bytes = sum(path.stat().st_size for path in written.iterdir())
        if size_bytes > SIZE_BYTES_MAX:
            raise ValueError(f"the model folder has {size_bytes} bytes, more than {SIZE_BYTES_MAX}")
        shutil.rmtree(directory, ignore_errors=True)
        written.rename(directory)
