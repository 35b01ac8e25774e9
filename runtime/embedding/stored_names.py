"""Where the parameters of transformers' encoders lie in a checkpoint, whichever way it was saved.

A file may carry the name of the model it was cut out of before every tensor, or lack it. Nomic's first files have names
of their own, and query, key and value in one tensor.
"""

import re

import torch

from runtime.llm.checkpoint import Checkpoint

_NOMIC_FIRST_NAMES = (
    (r"^embeddings\.LayerNorm\.", "emb_ln."),
    (r"^layers\.", "encoder.layers."),
    (r"\.self_attn\.o_proj\.", ".attn.out_proj."),
    (r"\.mlp\.up_proj\.", ".mlp.fc11."),
    (r"\.mlp\.gate_proj\.", ".mlp.fc12."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"\.post_attention_layernorm\.", ".norm1."),
    (r"\.post_mlp_layernorm\.", ".norm2."),
)
_NOMIC_PARTS = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
_NOMIC_PART = re.compile(r"\.self_attn\.([qkv]_proj)\.weight$")


class StoredNames:
    """`prefix`: what transformers puts before the base model's parameters in a model with a head."""

    def __init__(self, checkpoint: Checkpoint, prefix: str) -> None:
        self._checkpoint = checkpoint
        self._names = set(checkpoint.names)
        self._prefix = f"{prefix}."

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def read(self, name: str) -> torch.Tensor:
        """A view of the file; raises KeyError for a parameter that is not there."""
        if (found := self._find(name)) is not None:
            return self._checkpoint.tensor(found)
        first = name.removeprefix(self._prefix)
        for pattern, replacement in _NOMIC_FIRST_NAMES:
            first = re.sub(pattern, replacement, first)
        if part := _NOMIC_PART.search(first):
            whole = self.read(first[: part.start()] + ".attn.Wqkv.weight")
            return whole.chunk(3)[_NOMIC_PARTS[part[1]]]
        if (found := self._find(first)) is not None:
            return self._checkpoint.tensor(found)
        raise KeyError(name)

    def _find(self, name: str) -> str | None:
        for candidate in (name, self._prefix + name, name.removeprefix(self._prefix)):
            if candidate in self._names:
                return candidate
        return None
