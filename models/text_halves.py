"""Models that read images too, of which only the half that reads text is served: Gemma 3.

The text half is a model of its own in `architectures.py`, its config nested, its tensors under a prefix. What belongs
to the other half stays in the file, unread.
"""

from typing import Any

from models.refusal import invalid_config

TEXT_HALVES = {"Gemma3ForConditionalGeneration": ("Gemma3ForCausalLM", "gemma3_text")}
"""Class name to that of its text half, and its model type."""

IGNORED_TENSORS = r"(model\.)?(vision_tower|multi_modal_projector)\..+"
"""What the other half consists of, as a pattern."""

# What transformers' config class assumes for fields that a nested text_config leaves out.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
}
_PREFIXES = (
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model."),
)
"""As stored, by old and new checkpoints, and as in the text half alone."""


def has_unserved_half(config: dict[str, Any]) -> bool:
    match config.get("architectures"):
        case [str(name)]:
            return name in TEXT_HALVES
    return False


def served_config(config: dict[str, Any]) -> dict[str, Any]:
    """The text half's config.json as it would be alone; that of a whole model is returned as it is."""
    if not has_unserved_half(config):
        return config
    name, model_type = TEXT_HALVES[config["architectures"][0]]
    nested = config.get("text_config")
    if not isinstance(nested, dict):
        raise invalid_config("text_config is missing or not an object")
    # Fields of the whole that a text half has too.
    shared = ("eos_token_id", "tie_word_embeddings", "quantization_config", "compression_config")
    stated = {field: config[field] for field in shared if field in config}
    return _DEFAULTS | stated | nested | {"architectures": [name], "model_type": model_type}


def text_name(stored: str) -> str:
    """What a stored tensor is called in the text half alone."""
    for prefix, replacement in _PREFIXES:
        if stored.startswith(prefix):
            return replacement + stored.removeprefix(prefix)
    return stored
