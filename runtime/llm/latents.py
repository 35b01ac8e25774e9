"""Whether a model's KV cache holds latents: decided before memory is planned, for both forms differ in size by far."""

import inspect
import logging

from models.info import ModelInfo
from runtime.llm import attention
from runtime.llm.modeling import import_architecture
from runtime.llm.patches.mla import can_absorb

logger = logging.getLogger(__name__)


def choose_latents(info: ModelInfo, *, are_wanted: bool) -> ModelInfo:
    """The model as its cache will be: with latents where they are wanted, and the patch knows what it stands for."""
    if not are_wanted or info.attention.latent is None:
        return info
    model_class = import_architecture(info.model_type, info.architecture, attention.NAME, attention.attend).model_class
    if not can_absorb(inspect.unwrap(model_class.forward).__globals__):
        logger.warning("%s of this transformers is not known by its source: its KV is kept expanded", info.architecture)
        return info
    return info.compressed()
