"""The checkpoint of the engine benchmark: the shape of Qwen2.5-0.5B, random weights in bfloat16, made on the spot.

Also what our engine is told of it, and the same weights as llama.cpp wants them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.engine_peers import GGUF_FILE
from benchmarks.engine_process import ROOT
from benchmarks.engine_side import LOAD_FILE, VOCAB_SIZE
from models.info import ModelInfo
from models.llm_folder import inspect_llm
from models.sizing import replica_bytes

DEFAULT_DIRECTORY = Path(tempfile.gettempdir()) / "hearth-benchmarks"
MODEL_FOLDER = "qwen2.5-0.5b-shape"
NUM_LAYERS = 24
MAX_BATCH_TOKENS = 512
"""A step of 2048 tokens takes seconds on two cores, and gives no more tokens a second."""


def make_checkpoint(directory: Path, num_layers: int = NUM_LAYERS) -> None:
    """Write the checkpoint unless it is there."""
    if not (directory / "tokenizer.json").exists():
        # In a process of its own, so that none of this is in the memory of the one that measures.
        numbers = [str(VOCAB_SIZE), str(num_layers)]
        subprocess.run([sys.executable, "-c", _MAKE_CHECKPOINT, str(directory), *numbers], check=True)


_MAKE_CHECKPOINT = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM
from tests.fakes.tiny_llm import build_tiny_tokenizer

directory, vocab_size, num_layers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
config = Qwen2Config(
    hidden_size=896, num_hidden_layers=num_layers, num_attention_heads=14, num_key_value_heads=2,
    intermediate_size=4864, vocab_size=vocab_size, max_position_embeddings=32768, tie_word_embeddings=True,
    dtype="bfloat16", architectures=["Qwen2ForCausalLM"], bos_token_id=0, eos_token_id=1,
    rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
)
config.save_pretrained(directory)
with torch.device("meta"):
    skeleton = Qwen2ForCausalLM(config)
generator = torch.Generator().manual_seed(0)
tensors = {}
for name, parameter in skeleton.named_parameters():
    value = torch.empty(parameter.shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
    tensors[name] = value + 1 if name.endswith("norm.weight") else value
tensors.pop("lm_head.weight", None)
save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
build_tiny_tokenizer(adds_bos=False).save_pretrained(directory)
"""


def make_gguf(directory: Path, python: str) -> None:
    """Beside the checkpoint, unless it is there; `python` is that of llama.cpp's environment."""
    target = directory / GGUF_FILE
    if not target.exists():
        script = ROOT / "benchmarks" / "gguf_checkpoint.py"
        subprocess.run([python, "-P", str(script), str(directory), str(target)], check=True)


def write_load(directory: Path, *, max_context_length: int, max_num_requests: int, num_tokens: int) -> ModelInfo:
    """What ours is told, in plain words that an older checkout understands, too.

    Memory is for what the rows need at once; none of it is taken before it is used.
    """
    info = inspect_llm(directory)
    budget = replica_bytes(
        info,
        "bfloat16",
        max_context_length=max_context_length,
        concurrency=-(-num_tokens // max_context_length),
        max_batch_tokens=MAX_BATCH_TOKENS,
        max_num_requests=max_num_requests,
        is_cuda=False,
    )
    settings = {
        "device": "cpu",
        "dtype": "bfloat16",
        "memory_budget_bytes": budget,
        "max_context_length": max_context_length,
        "max_num_requests": max_num_requests,
        "max_batch_tokens": MAX_BATCH_TOKENS,
    }
    told = {"model_dir": str(directory), "file_sha256": info.file_sha256, "settings": settings}
    (directory.parent / LOAD_FILE).write_text(json.dumps(told))
    return info
