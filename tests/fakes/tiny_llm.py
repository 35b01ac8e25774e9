"""Tiny random language models in Hugging Face folders, saved by transformers itself, so that they are real checkpoints.

Weights are drawn wide (standard deviation 0.3) so that logits are well separated and greedy decoding has no near-ties;
biases and norms are random too, so that leaving one out changes the tokens. The tokenizer is a byte-level BPE of
`VOCAB_SIZE` tokens: any text encodes, most Latin letters are one token each, a few frequent pieces are merged.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

Architecture = Literal["llama", "qwen2", "qwen3", "mistral"]

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

_CLASSES: dict[Architecture, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
_OWN_SETTINGS: dict[Architecture, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 32},
    "mistral": {"sliding_window": 16},
}


def build_tiny_model(
    directory: Path,
    architecture: Architecture,
    *,
    seed: int = 0,
    dtype: str = "float32",
    max_shard_size: str = "1GB",
    **config_overrides: Any,
) -> Path:
    """Write config, generation config, weights, tokenizer and chat template; the same arguments give the same bytes."""
    config_class, model_class = _CLASSES[architecture]
    settings: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": BOS_TOKEN_ID,
        "eos_token_id": END_TOKEN_ID,
        "pad_token_id": None,
        "tie_word_embeddings": False,
        **_OWN_SETTINGS[architecture],
        **config_overrides,
    }
    model = model_class(config_class(**settings))
    _randomise(model, seed)
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
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if name.endswith("norm.weight") else 0.3 * noise)
