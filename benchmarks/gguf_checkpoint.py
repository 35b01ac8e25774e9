"""A Qwen2 checkpoint in safetensors as a GGUF file of the same bfloat16 weights, without a vocabulary.

`python gguf_checkpoint.py DIRECTORY FILE`, by a Python that has the gguf package, as llama.cpp's environment does. For
checkpoints of the benchmark, which are one file in bfloat16.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main() -> None:
    directory, target = Path(sys.argv[1]), Path(sys.argv[2])
    write_gguf(directory, target)


def write_gguf(directory: Path, target: Path) -> None:
    import gguf  # type: ignore[import-not-found,unused-ignore]

    config = json.loads((directory / "config.json").read_text())
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "qwen2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    for name, tensor in read_bfloat16(directory / "model.safetensors").items():
        if tensor.ndim == 1:  # llama.cpp adds and multiplies vectors in float32 only
            writer.add_tensor(gguf_name(name), (tensor.astype(np.uint32) << 16).view(np.float32))
        else:
            writer.add_tensor(gguf_name(name), tensor.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(target)


def gguf_name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    assert match is not None, f"no known tensor: {name}"
    return f"blk.{match[1]}.{NAMES[match[2]]}.{match[3]}"


def read_bfloat16(path: Path) -> dict[str, "np.ndarray[Any, np.dtype[np.uint16]]"]:
    """Tensors by name, each number as the 16 bits it is stored in."""
    content = np.memmap(path, mode="r")
    header_size = int(content[:8].view("<u8")[0])
    header = json.loads(bytes(content[8 : 8 + header_size]))
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "BF16", name
        start, stop = (8 + header_size + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(content[start:stop].tobytes(), dtype=np.uint16).reshape(entry["shape"])
    return tensors


if __name__ == "__main__":
    main()
