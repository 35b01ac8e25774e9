"""What adapter_config.json says of a PEFT addon: its rank, its scale and which layers it adapts, checked.

Names and defaults are those of peft's LoraConfig. An option that changes what is computed and is not applied here is
refused by its name; what only training or another tool reads is ignored.
"""

import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import msgspec

from models.refusal import ModelRefused, RefusalReason

ADDON_CONFIG = "adapter_config.json"
RANK_MAX = 64
ALL_LINEAR = "all-linear"

_UNSUPPORTED = (
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "fan_in_fan_out", "kasa_config", "layer_replication",
    "lora_bias", "megatron_config", "modules_to_save", "monteclora_config", "rank_pattern", "target_parameters",
    "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora", "velora_config",
)  # fmt: skip
"""Options of peft that change what is computed, unless they are left empty."""
_CHANGES_THE_BASE = ("corda", "loftq", "olora", "pissa")
"""Ways to begin a training that subtract something from the base model's weights, after which the addon needs it so."""

_LAYER_INDEX = re.compile(r"\.(\d+)\.")
_Names = Annotated[list[str], msgspec.Meta(max_length=4096)]
_Indices = Annotated[list[int], msgspec.Meta(max_length=4096)]


class _Fields(msgspec.Struct, frozen=True):
    r: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    lora_alpha: Annotated[float, msgspec.Meta(gt=0, le=2**20)]
    target_modules: _Names | str
    peft_type: str = "LORA"
    use_rslora: bool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    exclude_modules: _Names | str | None = None
    layers_to_transform: _Indices | int | None = None
    base_model_name_or_path: str | None = None


class AddonConfig(NamedTuple):
    rank: int
    scaling: float
    base_model: str
    targets: list[str] | None
    """Last parts of layers' names; None: every linear layer."""
    excluded: list[str]
    layer_indices: frozenset[int] | None
    """None: all layers."""

    def adapts(self, module: str) -> bool:
        """Whether this linear layer, by its path in the model, is one that the addon names."""
        if _is_named(module, self.excluded) or not (self.targets is None or _is_named(module, self.targets)):
            return False
        index = _LAYER_INDEX.search(module)
        return self.layer_indices is None or (index is not None and int(index[1]) in self.layer_indices)

    def unmatched(self, modules: Iterable[str]) -> list[str]:
        """Names of targets that none of these layers has."""
        return [name for name in self.targets or [] if not any(_is_named(module, [name]) for module in modules)]


def read_addon_config(config: dict[str, Any], rank_max: int) -> AddonConfig:
    """Check adapter_config.json; raises ModelRefused naming the field at fault."""
    try:
        fields = msgspec.convert(config, _Fields)
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error), ADDON_CONFIG) from error
    _refuse_unsupported(config, fields)
    if fields.r > rank_max:
        raise _unsupported(f"r: adapters of rank {fields.r} are not served, only up to {rank_max}")
    root = math.sqrt(fields.r) if fields.use_rslora else fields.r
    layers = fields.layers_to_transform
    indices = [layers] if isinstance(layers, int) else layers
    return AddonConfig(
        rank=fields.r,
        scaling=fields.lora_alpha / root,
        base_model=fields.base_model_name_or_path or "",
        targets=_names("target_modules", fields.target_modules),
        excluded=_names("exclude_modules", fields.exclude_modules or []) or [],
        layer_indices=None if indices is None else frozenset(indices),
    )


def _refuse_unsupported(config: dict[str, Any], fields: _Fields) -> None:
    if fields.peft_type != "LORA":
        raise _unsupported(f"peft_type: addons of type {fields.peft_type[:40]!r} are not served, only LORA")
    if fields.bias != "none":
        raise _unsupported(f"bias: {fields.bias[:40]!r} is not supported, only 'none'")
    for name in _UNSUPPORTED:
        if config.get(name):
            raise _unsupported(f"{name} is not supported")
    method = fields.init_lora_weights
    if isinstance(method, str) and method.lower().startswith(_CHANGES_THE_BASE):
        message = f"init_lora_weights: after {method[:40]!r} an addon belongs to changed weights of the base model"
        raise _unsupported(f"{message}; convert it to a plain LoRA first")


def _names(field: str, value: list[str] | str) -> list[str] | None:
    if isinstance(value, list):
        if not all(value):
            raise _unsupported(f"{field} holds an empty name")
        return value
    if value == ALL_LINEAR and field == "target_modules":
        return None
    raise _unsupported(f"{field}: the pattern {value[:100]!r} is not supported, only a list of names")


def _is_named(module: str, names: list[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def _unsupported(message: str) -> ModelRefused:
    return ModelRefused(RefusalReason.UNSUPPORTED_ADDON, message, ADDON_CONFIG)
