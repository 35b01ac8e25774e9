"""A draft model's way from its folder to the device, beside the target's. Owns the reasons why the two do not fit."""

from pathlib import Path
from typing import NamedTuple

import torch

from models.info import ModelInfo
from runtime.engine import LoadRefused
from runtime.llm.attention_choice import choose_attention
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.loader import build_skeleton, load_weights
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.speculation.draft_model import TorchDraftModel
from runtime.llm.vocabulary import Vocabulary
from runtime.settings import LlmSettings


class LoadedDraft(NamedTuple):
    model: TorchDraftModel
    attention: GatherAttention
    """Its memory is reserved, and not touched yet."""


def check_fit(target_dir: Path, draft_dir: Path, draft: ModelInfo, max_context_length: int) -> None:
    """Raise LoadRefused unless the draft model's tokens mean the same, as far as requests may go."""
    if not Vocabulary.load(draft_dir).is_same(Vocabulary.load(target_dir)):
        raise LoadRefused("the draft model has another vocabulary than the model that it would draft for")
    if draft.max_context_length < max_context_length:
        raise LoadRefused(
            f"the draft model's context ends at {draft.max_context_length} tokens,"
            f" and requests may have {max_context_length}: lower the deployment's context length"
        )


def load_draft(
    draft: ModelInfo,
    target: ModelInfo,
    settings: LlmSettings,
    num_blocks: int,
    operations: LayerOperations = PLAIN,
) -> LoadedDraft:
    assert settings.speculation.draft_model is not None
    directory = Path(settings.speculation.draft_model.model_dir)
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
    skeleton = build_skeleton(directory, draft, settings.max_context_length)
    loaded = load_weights(
        skeleton,
        directory,
        draft,
        dtype=dtype,
        device=device,
        enable_patches=settings.enable_patches,
        operations=operations,
        keeps_fp8=settings.keeps_fp8,
    )
    attention = choose_attention(
        draft.attention,
        num_blocks=num_blocks,
        block_size=settings.block_size,
        dtype=dtype,
        device=device,
        backend=settings.attention,
        is_fp8=settings.kv_cache_dtype == "fp8",
    )
    model = TorchDraftModel(
        loaded.model,
        attention,
        loaded.packing,
        vocab_size=min(draft.vocab_size, target.vocab_size),
        relative_cost=draft.num_parameters / target.num_parameters,
    )
    model.warm_up()
    return LoadedDraft(model, attention)
