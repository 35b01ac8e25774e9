"""How each architecture's layers are divided: the tables of transformers' own classes, and ours where there are none.

A table has patterns of paths, `*` for a layer's number, and of each how it is divided. Only the words are taken from
transformers; what is done about them is `division.py`'s.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from runtime.engine import LoadRefused


class Style(Enum):
    OUTPUTS = auto()
    """Each process computes some of the outputs: rows of the weight, and of the bias."""
    KEY_VALUE_OUTPUTS = auto()
    """The same, by KV heads, of which several processes may need the same one."""
    QUERY_KEY_VALUE_OUTPUTS = auto()
    """Queries, keys and values in one product, one after the other."""
    GATE_UP_OUTPUTS = auto()
    """Gate and up in one product, one after the other."""
    INPUTS = auto()
    """Each process multiplies some of the inputs: columns of the weight. The outputs are sums over all processes."""
    EXPERTS = auto()
    """Every expert is divided like an MLP."""
    HEAD = auto()
    """Each process computes the logits of a part of the vocabulary."""
    HEAD_NORMS = auto()
    """A norm for each head."""


class UnknownDivision(LoadRefused):
    """A model that nobody has said how to divide."""


_KEY_VALUE = ("k_proj", "v_proj")
_STYLES = {"colwise": Style.OUTPUTS, "rowwise": Style.INPUTS, "moe_tp_experts": Style.EXPERTS}
_WHOLE = {"replicated_with_grad_allreduce", "mla_kv_a_proj"}
_OF_EXPERTS = re.compile(r"\.experts\.(gate_up_proj|down_proj)$")
"""Parts of what has a word of its own."""

_ATTENTION = {
    "layers.*.self_attn.q_proj": Style.OUTPUTS,
    "layers.*.self_attn.k_proj": Style.KEY_VALUE_OUTPUTS,
    "layers.*.self_attn.v_proj": Style.KEY_VALUE_OUTPUTS,
    "layers.*.self_attn.o_proj": Style.INPUTS,
}
_GATED_MLP = {
    "layers.*.mlp.gate_proj": Style.OUTPUTS,
    "layers.*.mlp.up_proj": Style.OUTPUTS,
    "layers.*.mlp.down_proj": Style.INPUTS,
}
_OWN: dict[str, Mapping[str, Style]] = {
    # transformers would gather what these put out.
    "Phi3ForCausalLM": {
        "layers.*.self_attn.qkv_proj": Style.QUERY_KEY_VALUE_OUTPUTS,
        "layers.*.self_attn.o_proj": Style.INPUTS,
        "layers.*.mlp.gate_up_proj": Style.GATE_UP_OUTPUTS,
        "layers.*.mlp.down_proj": Style.INPUTS,
    },
    "StableLmForCausalLM": {
        **_ATTENTION,
        **_GATED_MLP,
        "layers.*.self_attn.q_layernorm": Style.HEAD_NORMS,
        "layers.*.self_attn.k_layernorm": Style.HEAD_NORMS,
    },
    "GPTBigCodeForCausalLM": {
        "h.*.attn.c_attn": Style.QUERY_KEY_VALUE_OUTPUTS,
        "h.*.attn.c_proj": Style.INPUTS,
        "h.*.mlp.c_fc": Style.OUTPUTS,
        "h.*.mlp.c_proj": Style.INPUTS,
    },
}
_ADDED: dict[str, Mapping[str, Style]] = {
    # transformers leaves it whole.
    "Qwen2MoeForCausalLM": {
        "layers.*.mlp.shared_expert.gate_proj": Style.OUTPUTS,
        "layers.*.mlp.shared_expert.up_proj": Style.OUTPUTS,
        "layers.*.mlp.shared_expert.down_proj": Style.INPUTS,
    },
}
_HEAD_NAME = "lm_head"


class DivisionTable:
    """Of a `…ForCausalLM`; raises UnknownDivision."""

    def __init__(self, model: Any) -> None:
        name = type(model).__name__
        styles = _OWN.get(name) or {**_read(name, model.config), **_ADDED.get(name, {})}
        if name == "GPTBigCodeForCausalLM" and not model.config.multi_query:
            styles = {**styles, "h.*.attn.c_attn": Style.OUTPUTS}  # then it is head by head
        self._patterns = [
            (re.compile(re.escape(f"{model.base_model_prefix}.{path}").replace(r"\*", r"\d+")), style)
            for path, style in styles.items()
        ]
        self._patterns.append((re.compile(_HEAD_NAME), Style.HEAD))

    def style(self, path: str) -> Style | None:
        """Of a module; None: each process has all of it."""
        return next((style for pattern, style in self._patterns if pattern.fullmatch(path)), None)


def _read(name: str, config: Any) -> dict[str, Style]:
    plan = getattr(config, "base_model_tp_plan", None)
    if not plan:
        raise UnknownDivision(f"{name} cannot be divided among devices")
    styles = {}
    for path, word in plan.items():
        if word in _WHOLE or _OF_EXPERTS.search(path):
            continue
        if word not in _STYLES:
            raise UnknownDivision(f"{name} cannot be divided among devices: {path} is to be {word!r}")
        style = _STYLES[word]
        styles[path] = Style.KEY_VALUE_OUTPUTS if path.endswith(_KEY_VALUE) and style is Style.OUTPUTS else style
    return styles
