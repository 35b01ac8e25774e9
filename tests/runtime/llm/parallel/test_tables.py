from types import SimpleNamespace
from typing import Any

import pytest

from runtime.llm.parallel.tables import DivisionTable, Style, UnknownDivision

PLAN = {
    "layers.*.self_attn.q_proj": "colwise",
    "layers.*.self_attn.v_proj": "colwise",
    "layers.*.self_attn.o_proj": "rowwise",
    "layers.*.self_attn.q_norm": "replicated_with_grad_allreduce",
    "layers.*.mlp.experts": "moe_tp_experts",
    "layers.*.mlp.experts.gate_up_proj": "packed_colwise",
    "layers.*.mlp.experts.down_proj": "rowwise",
}


def model(name: str = "NewForCausalLM", plan: dict[str, str] | None = None, **config: Any) -> Any:
    made = type(name, (), {})()
    made.base_model_prefix = "model"
    made.config = SimpleNamespace(base_model_tp_plan=plan, **config)
    return made


@pytest.mark.parametrize(
    ("path", "style"),
    [
        ("model.layers.0.self_attn.q_proj", Style.OUTPUTS),
        ("model.layers.12.self_attn.v_proj", Style.KEY_VALUE_OUTPUTS),
        ("model.layers.3.self_attn.o_proj", Style.INPUTS),
        ("model.layers.3.self_attn.q_norm", None),
        ("model.layers.3.mlp.experts", Style.EXPERTS),
        ("model.layers.3.mlp.gate", None),
        ("model.layers.x.self_attn.q_proj", None),
        ("model.embed_tokens", None),
        ("lm_head", Style.HEAD),
    ],
)
def test_transformers_words_are_read_as_what_they_mean_here(path: str, style: Style | None) -> None:
    assert DivisionTable(model(plan=PLAN)).style(path) is style


def test_a_model_without_a_table_or_with_an_unknown_word_is_refused_by_name() -> None:
    with pytest.raises(UnknownDivision, match="NewForCausalLM"):
        DivisionTable(model())
    with pytest.raises(UnknownDivision, match=r"q_proj is to be 'sideways'"):
        DivisionTable(model(plan={"layers.*.self_attn.q_proj": "sideways"}))


def test_tables_of_ours_go_first_and_add_what_transformers_leaves_whole() -> None:
    assert DivisionTable(model("StableLmForCausalLM")).style("model.layers.0.mlp.down_proj") is Style.INPUTS
    phi = DivisionTable(model("Phi3ForCausalLM", plan={"layers.*.self_attn.qkv_proj": "colwise_gather_output"}))
    assert phi.style("model.layers.0.self_attn.qkv_proj") is Style.QUERY_KEY_VALUE_OUTPUTS
    mixture = DivisionTable(model("Qwen2MoeForCausalLM", plan=PLAN))
    assert mixture.style("model.layers.0.mlp.shared_expert.up_proj") is Style.OUTPUTS


@pytest.mark.parametrize(("multi_query", "style"), [(True, Style.QUERY_KEY_VALUE_OUTPUTS), (False, Style.OUTPUTS)])
def test_queries_and_keys_of_gpt_bigcode_lie_as_its_config_says(multi_query: bool, style: Style) -> None:
    table = DivisionTable(model("GPTBigCodeForCausalLM", multi_query=multi_query))
    assert table.style("model.h.1.attn.c_attn") is style
