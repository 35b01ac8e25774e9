"""A checkpoint of random weights in a folder, as a real one of its shape would be: for measuring loads."""

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.full_vocabulary import write_full_vocabulary


def write_checkpoint(directory: Path, config: dict[str, Any], device: torch.device) -> None:
    """Weights are drawn on the device. Needs transformers for the tokenizer."""
    from safetensors.torch import save_file

    from models.architectures import read_decoder_config
    from tests.fakes.tiny_llm import VOCAB_SIZE, build_tiny_tokenizer

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, shape in read_decoder_config(config).tensors.items():
        values = torch.empty(tuple(shape), dtype=torch.bfloat16, device=device)
        tensors[name] = (values.normal_(0, 0.02) if len(shape) > 1 else values.fill_(1.0)).cpu()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    build_tiny_tokenizer(adds_bos=False).save_pretrained(directory)
    if config["vocab_size"] > VOCAB_SIZE:
        tokenizer = directory / "tokenizer.json"
        write_full_vocabulary(tokenizer, tokenizer, config["vocab_size"])
