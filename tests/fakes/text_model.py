"""A model's folder as far as text is concerned: tokenizer and chat template, no weights and no torch."""

import json
from pathlib import Path
from typing import Any

from models.info import AttentionInfo, ModelInfo

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message.role == 'system' and not loop.first -%}
        {{- raise_exception('the system message must come first') -}}
    {%- endif -%}
    {{- message.role + ': ' + (message.content or '') -}}
    {%- for call in message.tool_calls or [] -%}
        {{- call.type + ' ' + call.function.name + '(' + call.function.arguments.town + ')' -}}
    {%- endfor -%}
    {{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'assistant:' -}}{%- endif -%}
"""


def write_text_model(directory: Path, tokenizer: Any, *, bos_token: str | None, chat_template: str | None) -> Path:
    config = {"bos_token": bos_token, "chat_template": chat_template}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def text_model_info(*, vocab_size: int, eos_token_ids: list[int], has_chat_template: bool = True) -> ModelInfo:
    return ModelInfo(
        architecture="LlamaForCausalLM",
        model_type="llama",
        dtype="float32",
        num_parameters=1,
        weight_bytes=4,
        tied_embeddings=True,
        vocab_size=vocab_size,
        hidden_size=1,
        intermediate_size=1,
        attention=AttentionInfo(num_layers=1, num_heads=1, num_kv_heads=1, head_size=1, value_head_size=1),
        max_context_length=100,
        has_chat_template=has_chat_template,
        eos_token_ids=eos_token_ids,
    )
