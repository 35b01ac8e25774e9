"""Where the parameters of transformers' modules lie in a checkpoint: mostly under their own names, experts one by one.

The modules of a mixture keep all experts in one tensor; a checkpoint has three for each. They are read straight into
their places, so that the experts are never in memory twice.
"""

from typing import NamedTuple

import torch

from models.info import ModelInfo
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.parallel.cut import Cut
from runtime.llm.stored_weights import read_into

_RENAMED = {
    "gpt_neox": ("lm_head.", "embed_out."),
    "mixtral": (".mlp.", ".block_sparse_moe."),
}
"""By model type: a part of a parameter's name, and what stands there in the checkpoint."""


class _Projections(NamedTuple):
    gate: str
    up: str
    down: str


_PROJECTIONS = {"mixtral": _Projections("w1", "w3", "w2")}
_USUAL_PROJECTIONS = _Projections("gate_proj", "up_proj", "down_proj")


def stored_name(name: str, model_type: str) -> str:
    ours, theirs = _RENAMED.get(model_type, ("", ""))
    return name.replace(ours, theirs) if ours else name


def is_stacked(name: str) -> bool:
    return name.endswith((".experts.gate_up_proj", ".experts.down_proj"))


def stacked_names(name: str, info: ModelInfo, num_experts: int) -> list[list[str]]:
    """Of each expert the stored tensors whose rows follow one another in the parameter."""
    names = _PROJECTIONS.get(info.model_type, _USUAL_PROJECTIONS)
    path, _, parameter = stored_name(name, info.model_type).rpartition(".")
    projections = [names.gate, names.up] if parameter == "gate_up_proj" else [names.down]
    return [[f"{path}.{index}.{projection}.weight" for projection in projections] for index in range(num_experts)]


def read_stacked(
    checkpoint: Checkpoint, name: str, info: ModelInfo, target: torch.Tensor, cut: Cut | None = None
) -> None:
    """Fill `target`, of shape [experts, rows, columns], from the tensors of the experts, or the same cut of each."""
    for expert, stored in zip(target, stacked_names(name, info, len(target)), strict=True):
        for projection, place in zip(stored, expert.chunk(len(stored)), strict=True):
            read_into(checkpoint, projection, info, place, cut)
