"""What a sentence-transformers folder says beside its transformer: pooling, what follows it, prompts, lengths.

Modules are known by the last part of their class's name; no class is imported. A module that is not carried out here
is refused by its name.
"""

from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec

from models.folder import ModelFolder
from models.folder_rules import read_config, read_config_list
from models.info import DenseInfo, Pooling
from models.refusal import ModelRefused, RefusalReason

MODULES = "modules.json"
MODEL_SETTINGS = "config_sentence_transformers.json"
TRANSFORMER_SETTINGS = "sentence_bert_config.json"

_OLD_MODES: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: dict[str, Literal["identity", "tanh", "gelu", "relu", "sigmoid"]] = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}
_ORDERS = (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "LogitScore"])
"""How modules follow one another, before any number of Dense and Normalize."""
_T = TypeVar("_T")

_PROMPT_LENGTH_MAX = 10_000
_Dimensions = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
_TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**24)]


class SentenceModules(NamedTuple):
    """The defaults are of a folder that says nothing."""

    pooling: Pooling | None = None
    """None: none of them pools, as in a cross-encoder."""
    includes_prompt: bool = True
    dense: list[DenseInfo] = []
    is_normalized: bool = False
    true_token_id: int | None = None
    false_token_id: int | None = None
    prompts: dict[str, str] = {}
    default_prompt: str = ""
    max_length: int | None = None
    is_lowercased: bool = False
    score_activation: Literal["sigmoid", "identity"] = "sigmoid"


class _Module(msgspec.Struct, frozen=True):
    path: str
    type: str


class _Pooling(msgspec.Struct, frozen=True):
    pooling_mode: Pooling | list[Pooling]
    include_prompt: bool = True


class _Dense(msgspec.Struct, frozen=True):
    in_features: _Dimensions
    out_features: _Dimensions
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    use_residual: bool = False


class _LogitScore(msgspec.Struct, frozen=True):
    true_token_id: _TokenId
    false_token_id: _TokenId | None = None


class _Prompts(msgspec.Struct, frozen=True):
    prompts: dict[str, str | None] = {}
    default_prompt_name: str | None = None
    activation_fn: str | None = None


class _Transformer(msgspec.Struct, frozen=True):
    max_seq_length: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    do_lower_case: bool = False


def read_sentence_modules(folder: ModelFolder, files: list[str], config: dict[str, Any]) -> SentenceModules:
    """`config`: config.json, which may tell how a cross-encoder's score is made; raises ModelRefused."""
    modules = SentenceModules()
    if MODULES in files:
        modules = _carry_out(folder, files, _convert(list[_Module], read_config_list(folder, MODULES), MODULES))
    settings = read_config(folder, MODEL_SETTINGS) if MODEL_SETTINGS in files else {}
    stated = _convert(_Prompts, settings, MODEL_SETTINGS)
    prompts = {name: text for name, text in stated.prompts.items() if text}
    if any(len(text) > _PROMPT_LENGTH_MAX for text in prompts.values()):
        raise ModelRefused(RefusalReason.TOO_LARGE, "holds a prompt that is too long", MODEL_SETTINGS)
    default = stated.default_prompt_name or ""
    if default and default not in stated.prompts:
        raise _invalid(f"default_prompt_name: there is no prompt {default[:100]!r}", MODEL_SETTINGS)
    transformer = _convert(
        _Transformer,
        read_config(folder, TRANSFORMER_SETTINGS) if TRANSFORMER_SETTINGS in files else {},
        TRANSFORMER_SETTINGS,
    )
    return modules._replace(
        prompts=prompts,
        default_prompt=default if default in prompts else "",
        max_length=transformer.max_seq_length,
        is_lowercased=transformer.do_lower_case,
        score_activation=_score_activation(stated.activation_fn or _activation_in(config)),
    )


def _carry_out(folder: ModelFolder, files: list[str], modules: list[_Module]) -> SentenceModules:
    kinds = [module.type.rpartition(".")[2] for module in modules]
    for kind, module in zip(kinds, modules, strict=True):
        if not module.type.startswith("sentence_transformers."):
            raise _unsupported(f"the module {module.type[:100]!r} is code of its own, which is never run")
        if kind not in {"Transformer", "Pooling", "LogitScore", "Dense", "Normalize"}:
            raise _unsupported(f"the module {kind[:100]!r} is not supported")
    first = [kind for kind in kinds if kind not in {"Dense", "Normalize"}]
    if first not in _ORDERS or kinds[: len(first)] != first or (first[-1:] != ["Pooling"] and len(kinds) > len(first)):
        raise _unsupported(f"modules in the order {', '.join(kinds)[:200]} are not supported")
    if modules[0].path not in ("", "."):
        raise _unsupported("the transformer must lie in the model's folder itself")
    found = SentenceModules()
    for kind, module in zip(kinds[1:], modules[1:], strict=True):
        config = f"{module.path}/config.json"
        match kind:
            case "Pooling":
                found = _with_pooling(found, read_config(folder, config), config)
            case "LogitScore":
                score = _convert(_LogitScore, read_config(folder, config), config)
                found = found._replace(true_token_id=score.true_token_id, false_token_id=score.false_token_id)
            case "Dense":
                if found.is_normalized:
                    raise _unsupported("a Dense module behind Normalize is not supported")
                found = found._replace(dense=[*found.dense, _dense(read_config(folder, config), module.path, config)])
            case "Normalize":
                if config in files:
                    read_config(folder, config)
                found = found._replace(is_normalized=True)
    return found


def _with_pooling(found: SentenceModules, raw: dict[str, Any], name: str) -> SentenceModules:
    if "pooling_mode" not in raw:
        active = [mode for key, mode in _OLD_MODES.items() if raw.get(key)]
        raw = raw | {"pooling_mode": active or ["mean"]}
    stated = _convert(_Pooling, raw, name)
    modes = stated.pooling_mode if isinstance(stated.pooling_mode, list) else [stated.pooling_mode]
    if len(modes) != 1 or modes[0] == "none":
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, "only one way of pooling is supported", name)
    return found._replace(pooling=modes[0], includes_prompt=stated.include_prompt)


def _dense(raw: dict[str, Any], path: str, name: str) -> DenseInfo:
    stated = _convert(_Dense, raw, name)
    activation = _ACTIVATIONS.get(stated.activation_function)
    if activation is None or stated.use_residual:
        message = f"activation {stated.activation_function[:100]!r} or use_residual is not supported"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, name)
    return DenseInfo(
        folder=path,
        num_inputs=stated.in_features,
        num_outputs=stated.out_features,
        has_bias=stated.bias,
        activation=activation,
    )


def _activation_in(config: dict[str, Any]) -> str | None:
    nested = config.get("sentence_transformers")
    stated = (
        nested.get("activation_fn") if isinstance(nested, dict) else config.get("sbert_ce_default_activation_function")
    )
    return stated if isinstance(stated, str) else None


def _score_activation(stated: str | None) -> Literal["sigmoid", "identity"]:
    activation = "sigmoid" if stated is None else _ACTIVATIONS.get(stated)
    if activation == "sigmoid" or activation == "identity":
        return activation
    raise _invalid(f"activation_fn {(stated or '')[:100]!r} is not supported", MODEL_SETTINGS)


def _convert(type_: type[_T], raw: object, name: str) -> _T:
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), name) from error


def _invalid(message: str, name: str) -> ModelRefused:
    return ModelRefused(RefusalReason.INVALID_CONFIG, message, name)


def _unsupported(message: str) -> ModelRefused:
    return ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, MODULES)
