"""transformers' own modeling files, imported without the nine tenths of transformers that a worker never calls.

Importing `modeling_llama` the plain way costs 2.3 s and 110 MB, most of it for generation, distribution, quantisation
and checkpoint conversion; the architecture itself needs 0.2 s. So where nobody has imported transformers yet, the
modules that lead there are stood in for, by exactly the names that decoders take from them. A name that is not
here is an ImportError, and that architecture is imported in full. What was imported this way is put aside, for the
next architecture to find; nobody else ever sees it.
"""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, TypeVar, Unpack, get_type_hints

import torch
from torch import nn

logger = logging.getLogger(__name__)

_PACKAGES = {"gemma3_text": "gemma3", "xlm-roberta": "xlm_roberta"}
"""By model type, where a package of transformers is called otherwise."""

_ANY_MODEL_TYPE = "llama"
"""Its modules lead to all that decoders have in common."""
_lean_modules: dict[str, ModuleType] = {}
"""By name, while nothing is being imported."""

DecoratedT = TypeVar("DecoratedT")
AttentionFunction = Callable[..., tuple[torch.Tensor, None]]


class Architecture(NamedTuple):
    model_class: Any
    """A `…ForCausalLM` of transformers."""
    config_class: Any


def import_architecture(model_type: str, name: str, attention_name: str, attend: AttentionFunction) -> Architecture:
    """Import the class called `name`, with `attend` registered as the attention called `attention_name`.

    Raises ImportError when transformers has no such model, or one that attends in a way of its own.
    """
    package = _PACKAGES.get(model_type, model_type)
    module_name = f"transformers.models.{package}.modeling_{package}"
    module = _import_lean(module_name) if "transformers" not in sys.modules else None
    module = module or importlib.import_module(module_name)
    functions = getattr(module, "ALL_ATTENTION_FUNCTIONS", None)
    if functions is None:
        raise ImportError(f"{module_name} takes no attention function")
    functions.register(attention_name, attend)
    model_class = getattr(module, name, None)
    if model_class is None:
        raise ImportError(f"{module_name} has no {name}")
    return Architecture(model_class, get_type_hints(model_class)["config"])


def prepare_architectures() -> None:
    """Import what most of them need, ahead of any model; half of what a load would import."""
    _import_lean(f"transformers.models.{_ANY_MODEL_TYPE}.modeling_{_ANY_MODEL_TYPE}")


def _import_lean(module_name: str) -> ModuleType | None:
    try:
        with _stand_ins():
            return importlib.import_module(module_name)
    except (ImportError, AttributeError, TypeError) as error:
        logger.info("%s needs all of transformers: %s", module_name, error)
        return None


@contextmanager
def _stand_ins() -> Iterator[None]:
    """What is imported inside is put aside at the end, so that a later plain import of transformers works."""
    if not _lean_modules:
        _make_stand_ins()
    sys.modules.update(_lean_modules)
    try:
        utils = importlib.import_module("transformers.utils")
        utils.auto_docstring = _undecorated  # type: ignore[attr-defined]  # it reads and rewrites source files
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
            _lean_modules[name] = sys.modules.pop(name)


def _make_stand_ins() -> None:
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("transformers is not installed")
    root = spec.submodule_search_locations[0]
    # Packages without what their __init__ does: two of them take an inventory of all 500 architectures.
    packages: dict[str, dict[str, object]] = {
        "": {"__version__": importlib.metadata.version("transformers")},
        ".models": {},
        ".generation": {"GenerationMixin": _Unused},
        ".integrations": _INTEGRATIONS,
    }
    for suffix, names in packages.items():
        _stand_in(suffix, {**names, "__path__": [root + suffix.replace(".", "/")]})
    for suffix, names in _MODULES.items():
        _stand_in(suffix, names)
    for suffix, names in _NEVER_CALLED.items():
        _stand_in(suffix, {**names, "__getattr__": _unused_name})


def _stand_in(suffix: str, names: dict[str, object]) -> None:
    module = ModuleType("transformers" + suffix)
    module.__dict__.update(names)
    _lean_modules[module.__name__] = module


class _Unused:
    """Base class of heads and of generation, which are never called here."""


class _Pushable:
    """Configurations copy this method where they are defined."""

    def push_to_hub(self) -> None:
        """Never called."""


def _unused_name(name: str) -> type[_Unused]:
    """For modules whose every name is one; Python itself asks for those with underscores around them."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _Unused


class _Model(nn.Module):
    """What decoders use of PreTrainedModel; weights are `loader.py`'s affair."""

    def __init__(self, config: object) -> None:
        super().__init__()
        self.config = config

    def post_init(self) -> None:
        """Initialising weights is for training."""


class _AttentionFunctions:
    _functions: ClassVar[dict[str, AttentionFunction]] = {}

    @classmethod
    def register(cls, name: str, function: AttentionFunction) -> None:
        cls._functions[name] = function

    def get_interface(self, name: str, default: AttentionFunction) -> AttentionFunction:
        return self._functions.get(name, default)


def _undecorated(
    decorated: DecoratedT | None = None, **options: object
) -> DecoratedT | Callable[[DecoratedT], DecoratedT]:
    return (lambda inner: inner) if decorated is None else decorated


def _kernel_decorator(*names: object) -> Callable[[DecoratedT], DecoratedT]:
    return lambda decorated: decorated


def _no_mask(**arguments: object) -> None:
    """What transformers' own function returns when the attention in use has no mask registered, as ours."""


def _slice_logits_to_keep(hidden_states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return hidden_states[:, rows]


_KERNEL_DECORATORS: dict[str, object] = {
    "use_kernel_forward_from_hub": _kernel_decorator,
    "use_kernelized_func": _kernel_decorator,
}
# A mixture of experts is computed expert by expert: what a token gets does not depend on who shares its batch.
_INTEGRATIONS: dict[str, object] = {**_KERNEL_DECORATORS, "use_experts_implementation": _undecorated}
# Downloads, with a client of HTTP and all that it needs, and templates.
_NEVER_CALLED: dict[str, dict[str, object]] = {
    ".utils.hub": {"PushToHubMixin": _Pushable},
    ".utils.chat_template_utils": {},
}
_MODULES: dict[str, dict[str, object]] = {
    ".integrations.hub_kernels": _KERNEL_DECORATORS,
    ".masking_utils": {
        "create_bidirectional_mask": _no_mask,
        "create_bidirectional_sliding_window_mask": _no_mask,
        "create_causal_mask": _no_mask,
        "create_masks_for_generate": _no_mask,
        "create_sliding_window_causal_mask": _no_mask,
        # Those of images, which a decoder never asks for.
        "_preprocess_mask_arguments": _no_mask,
        "blockwise_overlay": _no_mask,
        "maybe_pad_block_sequence_ids": _no_mask,
        "sliding_window_overlay": _no_mask,
    },
    ".models.auto": {"AutoConfig": _Unused, "AutoModel": _Unused},
    ".modeling_flash_attention_utils": {"FlashAttentionKwargs": dict},
    ".modeling_layers": {
        "GradientCheckpointingLayer": nn.Module,
        "GenericForQuestionAnswering": _Unused,
        "GenericForSequenceClassification": _Unused,
        "GenericForTokenClassification": _Unused,
    },
    ".modeling_utils": {
        "PreTrainedModel": _Model,
        "ALL_ATTENTION_FUNCTIONS": _AttentionFunctions(),
        "slice_logits_to_keep": _slice_logits_to_keep,
    },
    ".processing_utils": {"Unpack": Unpack},
}
