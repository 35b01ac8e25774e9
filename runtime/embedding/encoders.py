"""A model folder becomes a module tree of transformers with our weights in it, called with all texts of a step at once.

Attention is `attention.attend`, so texts lie one behind the other without padding; a family with an attention of its
own (MPNet) is given them padded. Owns what families do differently: names, position numbers, heads.
"""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import nn

from models.encoders import ENCODERS
from models.info import EmbeddingInfo
from runtime.embedding import attention
from runtime.embedding.layout import Layout
from runtime.embedding.pooling import pool
from runtime.embedding.stored_names import StoredNames
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.linear import Linear, Packing
from runtime.llm.loader import parameters_on_meta
from runtime.llm.modeling import import_architecture
from runtime.llm.rotary import choose_frequencies, keep_frequencies

_PADDED = {"mpnet"}
"""Model types that attend in a way of their own."""
_WITHOUT_POOLER = {"bert", "roberta", "xlm-roberta", "mpnet"}
"""Whose base model has one unless it is told."""
_BASE_NAMES = {"Gemma3ForCausalLM": "Gemma3TextModel"}

ReportFraction = Callable[[float], None]


class StepTokens(NamedTuple):
    """All tokens of a step, flat."""

    token_ids: torch.Tensor
    layout: Layout
    type_ids: torch.Tensor
    """Which text of a pair each is of."""


class Encoder:
    """`model`: a base model, or one with a scoring head; in evaluation mode, on its device."""

    def __init__(self, model: Any, info: EmbeddingInfo) -> None:
        self.model = model
        self.is_scorer = info.architecture.endswith("ForSequenceClassification")
        self.base = getattr(model, model.base_model_prefix) if self.is_scorer else model
        self._is_padded = info.model_type in _PADDED
        config = self.base.config
        self._first_position = _first_position(self.base)
        self._has_types = getattr(config, "type_vocab_size", 0) > 1
        self._is_decoder = info.model_type not in ENCODERS
        self._pad_token_id = config.pad_token_id or 0

    @property
    def num_positions(self) -> int | None:
        """Length of the longest text whose positions are known; None: there is no table of them."""
        for module in self.base.modules():
            table = getattr(module, "position_embeddings", None)
            if isinstance(table, nn.Embedding):
                return table.num_embeddings - self._first_position
        return None

    def encode(self, tokens: StepTokens) -> torch.Tensor:
        """[tokens, hidden size]"""
        if self._is_padded:
            return self._encode_padded(tokens)
        inputs: dict[str, Any] = {
            "input_ids": tokens.token_ids[None],
            "position_ids": tokens.layout.positions[None] + self._first_position,
        }
        if self._has_types:
            inputs["token_type_ids"] = tokens.type_ids[None]
        if self._is_decoder:
            inputs["use_cache"] = False
        with attention.use_layout(tokens.layout):
            hidden: torch.Tensor = self.base(**inputs).last_hidden_state[0]
        return hidden

    def score(self, hidden: torch.Tensor, layout: Layout) -> torch.Tensor:
        """[texts]: the logit that a scoring head makes of each."""
        model, first = self.model, hidden[layout.first_places]
        if hasattr(model, "bert"):
            logits = model.classifier(model.bert.pooler(first[:, None]))
        elif hasattr(model, "pre_classifier"):
            logits = model.classifier(torch.relu(model.pre_classifier(first)))
        elif hasattr(model, "head"):
            is_mean = self.base.config.classifier_pooling == "mean"
            logits = model.classifier(model.head(pool(hidden, layout, "mean").to(hidden.dtype) if is_mean else first))
        else:
            logits = model.classifier(first[:, None])
        scores: torch.Tensor = logits[:, 0].float()
        return scores

    def _encode_padded(self, tokens: StepTokens) -> torch.Tensor:
        layout = tokens.layout
        kept = layout.positions.new_tensor(layout.lengths)[:, None] > torch.arange(
            layout.lengths[0], device=layout.device
        )
        token_ids = torch.full(kept.shape, self._pad_token_id, device=layout.device)
        token_ids[kept] = tokens.token_ids
        positions = torch.full(kept.shape, self._first_position - 1, device=layout.device)
        positions[kept] = layout.positions + self._first_position
        hidden: torch.Tensor = self.base(
            input_ids=token_ids, position_ids=positions, attention_mask=kept.long()
        ).last_hidden_state
        return hidden[kept]


def build_encoder(directory: Path, info: EmbeddingInfo, max_context_length: int) -> Encoder:
    """The module tree without weights; raises ImportError where transformers has no such model."""
    name, model_type = _class_name(info), info.model_type
    if model_type in _PADDED:
        module = importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")
        model_class = getattr(module, name)
        config_class = get_type_hints(model_class)["config"]
    else:
        model_class, config_class = import_architecture(model_type, name, attention.NAME, attention.attend)
    stated = json.loads((directory / "config.json").read_bytes())
    if model_type in ENCODERS:
        stated = ENCODERS[model_type].named(stated)
    config = config_class.from_dict(stated)
    _prepare_config(config, info, max_context_length)
    options = {} if info.model_type not in _WITHOUT_POOLER or name.endswith("tion") else {"add_pooling_layer": False}
    with parameters_on_meta():
        model = model_class(config, **options).eval()
    keep_frequencies(model)
    return Encoder(model, info)


def fill_encoder(
    encoder: Encoder,
    checkpoint: Checkpoint,
    info: EmbeddingInfo,
    *,
    dtype: torch.dtype,
    device: torch.device,
    report: ReportFraction = lambda fraction: None,
) -> Packing:
    """Give every parameter its value; the layers that would be faster packed, and are not yet."""
    model = encoder.model
    stored_names = StoredNames(checkpoint, model.base_model_prefix)
    num_bytes_done = 0
    for path, module in list(model.named_modules()):
        for name, parameter in list(module.named_parameters(path, recurse=False)):
            stored = stored_names.read(name)
            tensor = stored.to(device=device, dtype=dtype)
            if tensor.data_ptr() != stored.data_ptr():
                checkpoint.drop_pages(stored)
            assert tensor.shape == parameter.shape, name
            setattr(module, name.rpartition(".")[2], nn.Parameter(tensor, requires_grad=False))
            num_bytes_done += stored.nbytes
        report(min(1.0, num_bytes_done / info.weight_bytes))
    model.to(device)  # buffers
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    return _make_packable(model, checkpoint)


def _make_packable(model: nn.Module, checkpoint: Checkpoint) -> Packing:
    layers = []
    for path, module in list(model.named_modules()):
        if type(module) is nn.Linear:
            layers.append(Linear([module], checkpoint.drop_pages))
            model.set_submodule(path, layers[-1])
    return Packing(layers)


def _first_position(base: nn.Module) -> int:
    """RoBERTa and its kin number positions from behind the padding token's id."""
    for module in base.modules():
        if isinstance(getattr(module, "position_embeddings", None), nn.Embedding):
            padding = getattr(module, "padding_idx", None)
            return padding + 1 if isinstance(padding, int) else 0
    return 0


def _class_name(info: EmbeddingInfo) -> str:
    if info.model_type in ENCODERS:
        return info.architecture
    return _BASE_NAMES.get(info.architecture) or info.architecture.replace("ForCausalLM", "Model")


def _prepare_config(config: Any, info: EmbeddingInfo, max_context_length: int) -> None:
    """A file may ask for what only training needs, or for ways of computing that depend on the batch."""
    is_padded = info.model_type in _PADDED
    config._attn_implementation = "eager" if is_padded else attention.NAME
    config._experts_implementation = "eager"
    config.output_attentions = config.output_hidden_states = config.output_router_logits = False
    config.return_dict = True
    config.num_labels = 1
    if info.model_type not in ENCODERS:
        config.pad_token_id = None
        choose_frequencies(config, max_context_length)
