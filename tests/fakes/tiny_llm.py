"""Tiny random language models in Hugging Face folders, saved by transformers itself, so that they are real checkpoints.

Weights are drawn wide (standard deviation 0.3) so that logits are well separated and greedy decoding has no near-ties;
biases and norms are random too, so that leaving one out changes the tokens. The tokenizer is a byte-level BPE of
`VOCAB_SIZE` tokens: any text encodes, most Latin letters are one token each, a few frequent pieces are merged.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast

Architecture = Literal[
    "llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen2_moe", "qwen3_moe", "gemma", "gemma2", "gemma3", "phi",
    "phi3", "stablelm", "gpt_neox", "gpt_bigcode", "starcoder2", "deepseek_v2",
]  # fmt: skip

VOCAB_SIZE = 320
BOS_TOKEN, END_TOKEN, TURN_TOKEN = "<|begin|>", "<|endoftext|>", "<|turn|>"
BOS_TOKEN_ID, END_TOKEN_ID, TURN_TOKEN_ID = 0, 1, 2

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|turn|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content | trim }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- call.function | tojson }}
    {%- endfor %}
    {{- '<|endoftext|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|turn|>assistant\\n' }}
{%- endif %}
"""

_CORPUS = (
    "the hearth keeps the house warm while the kettle sings and the embers glow",
    "a request waits in the queue until the scheduler gives it blocks and a turn",
    "tokens stream one by one from the engine to the client that asked for them",
    "where the fire is lit there is warmth, and when it is banked there is rest",
)

_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_GPT2_SHAPE: dict[str, Any] = {"n_embd": 64, "n_inner": 128, "n_layer": 2, "n_head": 4, "n_positions": 512}
_WINDOW = 8
_NORM_WEIGHT = re.compile(r"(norm|norms\.\d+|ln_\w)\.weight$")


class _Family(NamedTuple):
    class_name: str
    """Without ForCausalLM."""
    settings: Mapping[str, Any] = MappingProxyType({})
    config_name: str | None = None
    seed: int = 0


# Small, and with every kind of layer that the family has.
_FAMILIES: dict[Architecture, _Family] = {
    "llama": _Family("Llama"),
    "mistral": _Family("Mistral", {"sliding_window": 16}),
    "qwen2": _Family("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": _Family("Qwen3", {"head_dim": 32}),
    "mixtral": _Family("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 64}),
    "qwen2_moe": _Family(
        "Qwen2Moe",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 48,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3_moe": _Family(
        "Qwen3Moe",
        {
            "head_dim": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "norm_topk_prob": True,
        },
    ),
    "gemma": _Family("Gemma", {"head_dim": 32, "num_key_value_heads": 1}),
    "gemma2": _Family("Gemma2", {"head_dim": 32, "sliding_window": _WINDOW, "query_pre_attn_scalar": 24}),
    "gemma3": _Family(
        "Gemma3",
        {"head_dim": 32, "sliding_window": _WINDOW, "num_hidden_layers": 3, "sliding_window_pattern": 3},
        config_name="Gemma3TextConfig",
    ),
    "phi": _Family("Phi", {"qk_layernorm": True, "num_key_value_heads": 4}),
    "phi3": _Family("Phi3", {"sliding_window": 16}),
    "stablelm": _Family("StableLm", {"use_qkv_bias": True, "qk_layernorm": True}),
    "gpt_neox": _Family("GPTNeoX"),
    "gpt_bigcode": _Family("GPTBigCode", _GPT2_SHAPE),
    "starcoder2": _Family("Starcoder2", {"sliding_window": _WINDOW}),
    "deepseek_v2": _Family(
        "DeepseekV2",
        {
            "num_hidden_layers": 3,
            "num_key_value_heads": 4,
            "first_k_dense_replace": 1,
            "n_routed_experts": 4,
            "n_shared_experts": 2,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "routed_scaling_factor": 1.5,
            "kv_lora_rank": 24,
            "q_lora_rank": 20,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 12,
        },
    ),
}
ARCHITECTURES: list[Architecture] = list(_FAMILIES)


def build_tiny_model(
    directory: Path,
    architecture: Architecture,
    *,
    seed: int | None = None,
    dtype: str = "float32",
    max_shard_size: str = "1GB",
    **config_overrides: Any,
) -> Path:
    """Write config, generation config, weights, tokenizer and chat template; the same arguments give the same bytes."""
    family = _FAMILIES[architecture]
    settings: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "bos_token_id": BOS_TOKEN_ID,
        "eos_token_id": END_TOKEN_ID,
        "pad_token_id": None,
        "tie_word_embeddings": False,
        **({} if "n_embd" in family.settings else _SHAPE),
        **family.settings,
        **config_overrides,
    }
    config = getattr(transformers, family.config_name or f"{family.class_name}Config")(**settings)
    model = getattr(transformers, f"{family.class_name}ForCausalLM")(config)
    _randomise(model, family.seed if seed is None else seed)
    model.generation_config = GenerationConfig(
        bos_token_id=settings["bos_token_id"],
        eos_token_id=settings["eos_token_id"],
        do_sample=True,
        temperature=0.7,
        top_p=0.9,
        top_k=20,
    )
    model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size=max_shard_size)
    build_tiny_tokenizer(adds_bos=architecture != "qwen2").save_pretrained(directory)
    return directory


def build_tiny_tokenizer(*, adds_bos: bool = True) -> Any:
    """A byte-level BPE with exactly VOCAB_SIZE tokens and CHAT_TEMPLATE; Llama-like ones put BOS before plain text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[BOS_TOKEN, END_TOKEN, TURN_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS_TOKEN} $A", special_tokens=[(BOS_TOKEN, BOS_TOKEN_ID)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS_TOKEN, eos_token=END_TOKEN, clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _randomise(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Gemma's norms multiply by 1 + weight.
    norm_mean = 0.0 if type(model).__name__.startswith("Gemma") else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(norm_mean + 0.1 * noise if _NORM_WEIGHT.search(name) else 0.3 * noise)
