"""A skeleton becomes one process's part of a model: smaller layers, and for each of its weights what is to be read.

The table of `tables.py` is followed as written. Norms, routers and the embedding are whole in every process. After
`divide` the module tree computes from its part as the whole one would: only sums and logits are to be put together,
which is `collectives.py`'s.
"""

import copy
from typing import Any, NamedTuple

import msgspec
import torch
from torch import nn

from models.info import AttentionInfo, ModelInfo
from runtime.llm.parallel.cut import Cut, Share
from runtime.llm.parallel.tables import DivisionTable, Style


class Division(NamedTuple):
    share: Share
    cuts: dict[str, Cut]
    """By parameter; of the others all is read. Of experts: what is cut of each one's matrices."""
    summed_linears: list[str]
    """Paths of linear layers whose outputs are sums over all processes."""
    summed_experts: list[str]
    """Paths of mixtures, likewise."""
    head: str
    """Path of the layer that puts out logits."""
    vocab_size: int


def divided(info: ModelInfo, share: Share) -> ModelInfo:
    """What one process sees of a model."""
    attention = info.attention
    own = msgspec.structs.replace(
        attention,
        num_heads=len(share.of(attention.num_heads)),
        num_kv_heads=len(_kv_heads(attention.num_kv_heads, share)),
    )
    return msgspec.structs.replace(info, attention=own, weight_bytes=-(-info.weight_bytes // share.size))


def divide(model: Any, shape: AttentionInfo, share: Share) -> Division:
    """In place; `shape` is the whole model's, whose heads can be divided. Raises UnknownDivision."""
    division = Division(share, {}, [], [], "lm_head", model.config.vocab_size)
    if share.size == 1:
        return division
    table = DivisionTable(model)
    divider = _Divider(shape, division)
    for path, module in list(model.named_modules()):
        style = table.style(path)
        if style is not None:
            divider.divide(path, module, style)
        _adjust(module, shape, share)
    return division


class _Divider:
    def __init__(self, shape: AttentionInfo, division: Division) -> None:
        self._shape = shape
        self._division = division
        self._share = division.share

    def divide(self, path: str, module: Any, style: Style) -> None:
        match style:
            case Style.INPUTS:
                self._divide_inputs(path, module)
            case Style.EXPERTS:
                self._divide_experts(path, module)
            case Style.HEAD_NORMS:
                self._divide_norms(module)
            case Style.OUTPUTS | Style.HEAD:
                self._cut(path, module, Cut(0, (self._share.of(module.out_features),)))
            case Style.KEY_VALUE_OUTPUTS:
                self._cut(path, module, Cut(0, (self._kv_rows(module.out_features),)))
            case Style.QUERY_KEY_VALUE_OUTPUTS:
                self._cut(path, module, self._query_key_value())
            case Style.GATE_UP_OUTPUTS:
                gate = self._share.of(module.out_features // 2)
                self._cut(path, module, Cut(0, (gate, _moved(gate, module.out_features // 2))))

    def _divide_inputs(self, path: str, module: Any) -> None:
        cut = Cut(1, (self._share.of(module.in_features),))
        self._division.cuts[f"{path}.weight"] = cut
        module.weight = _like(module.weight, (len(module.weight), cut.size))
        module.in_features = cut.size
        if self._share.rank:
            module.bias = None  # in the sum it is to be found once
        self._division.summed_linears.append(path)

    def _divide_experts(self, path: str, module: Any) -> None:
        num_experts, hidden_size, intermediate_size = module.down_proj.shape
        part = self._share.of(intermediate_size)
        self._division.cuts[f"{path}.gate_up_proj"] = Cut(0, (part,))
        self._division.cuts[f"{path}.down_proj"] = Cut(1, (part,))
        module.gate_up_proj = _like(module.gate_up_proj, (num_experts, 2 * len(part), hidden_size))
        module.down_proj = _like(module.down_proj, (num_experts, hidden_size, len(part)))
        module.intermediate_dim = len(part)
        self._division.summed_experts.append(path)

    def _divide_norms(self, module: Any) -> None:
        """Those that stay keep their names, by which they are read."""
        num_heads = len(module.norms)
        is_of_keys = num_heads == self._shape.num_kv_heads
        heads = _kv_heads(num_heads, self._share) if is_of_keys else self._share.of(num_heads)
        own = nn.ModuleList()
        for head in heads:
            own.add_module(str(head), module.norms[head])
        module.norms = own

    def _cut(self, path: str, module: Any, cut: Cut) -> None:
        for name, parameter in module.named_parameters(path, recurse=False):
            self._division.cuts[name] = cut
            setattr(module, name.removeprefix(f"{path}."), _like(parameter, (cut.size, *parameter.shape[1:])))
        module.out_features = cut.size

    def _kv_rows(self, num_rows: int) -> range:
        head_size = num_rows // self._shape.num_kv_heads
        heads = _kv_heads(self._shape.num_kv_heads, self._share)
        return range(heads.start * head_size, heads.stop * head_size)

    def _query_key_value(self) -> Cut:
        shape = self._shape
        num_query_rows = shape.num_heads * shape.head_size
        queries = self._share.of(num_query_rows)
        num_key_rows = shape.num_kv_heads * shape.head_size
        keys = _moved(self._kv_rows(num_key_rows), num_query_rows)
        return Cut(0, (queries, keys, _moved(keys, num_key_rows)))


def _adjust(module: Any, shape: AttentionInfo, share: Share) -> None:
    """What attention of some families remembers of its heads, beside its layers."""
    num_heads, num_kv_heads = len(share.of(shape.num_heads)), len(_kv_heads(shape.num_kv_heads, share))
    match type(module).__name__:
        case "Phi3Attention":
            module.config = copy.copy(module.config)
            module.config.num_attention_heads = num_heads
            module.num_key_value_heads = num_kv_heads
        case "StableLmAttention":
            module.num_heads, module.num_key_value_heads = num_heads, num_kv_heads
        case "GPTBigCodeAttention":
            module.num_heads, module.kv_heads = num_heads, num_kv_heads
            module.embed_dim, module.kv_dim = num_heads * module.head_dim, num_kv_heads * module.head_dim


def _kv_heads(num_kv_heads: int, share: Share) -> range:
    """With fewer heads than processes, neighbours have the same one, as their query heads do."""
    if num_kv_heads >= share.size:
        return share.of(num_kv_heads)
    head = share.rank * num_kv_heads // share.size
    return range(head, head + 1)


def _moved(part: range, offset: int) -> range:
    return range(part.start + offset, part.stop + offset)


def _like(parameter: nn.Parameter, size: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(torch.empty(size, dtype=parameter.dtype, device=parameter.device), requires_grad=False)
