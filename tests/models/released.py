"""Configs as their makers released them, shortened to what is read, with the number of parameters they announce."""

from typing import Any, NamedTuple


class Released(NamedTuple):
    num_parameters: int
    config: dict[str, Any]


def _config(
    architecture: str, model_type: str, sizes: tuple[int, int, int, int, int, int], **fields: Any
) -> dict[str, Any]:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {
        "architectures": [architecture],
        "model_type": model_type,
        **dict(zip((*names, "max_position_embeddings"), sizes, strict=True)),
        **fields,
    }


RELEASED = {
    "mixtral-8x7b": Released(
        46_702_792_704,
        _config(
            "MixtralForCausalLM",
            "mixtral",
            (32000, 4096, 14336, 32, 32, 32768),
            num_key_value_heads=8,
            num_local_experts=8,
            num_experts_per_tok=2,
            rope_theta=1e6,
            sliding_window=None,
        ),
    ),
    "deepseek-v2-lite": Released(
        15_706_484_224,
        _config(
            "DeepseekV2ForCausalLM",
            "deepseek_v2",
            (102400, 2048, 10944, 27, 16, 163840),
            num_key_value_heads=16,
            moe_intermediate_size=1408,
            n_routed_experts=64,
            n_shared_experts=2,
            num_experts_per_tok=6,
            first_k_dense_replace=1,
            q_lora_rank=None,
            norm_topk_prob=False,
            n_group=1,
            topk_group=1,
            rope_scaling={
                "type": "yarn",
                "factor": 40,
                "original_max_position_embeddings": 4096,
                "beta_fast": 32,
                "beta_slow": 1,
                "mscale": 0.707,
                "mscale_all_dim": 0.707,
            },
        ),
    ),
    "qwen1.5-moe-a2.7b": Released(
        14_315_784_192,
        _config(
            "Qwen2MoeForCausalLM",
            "qwen2_moe",
            (151936, 2048, 5632, 24, 16, 8192),
            num_key_value_heads=16,
            num_experts=60,
            num_experts_per_tok=4,
            moe_intermediate_size=1408,
            shared_expert_intermediate_size=5632,
        ),
    ),
    "qwen3-30b-a3b": Released(
        30_532_122_624,
        _config(
            "Qwen3MoeForCausalLM",
            "qwen3_moe",
            (151936, 2048, 6144, 48, 32, 40960),
            num_key_value_heads=4,
            head_dim=128,
            num_experts=128,
            num_experts_per_tok=8,
            moe_intermediate_size=768,
        ),
    ),
    "gemma-7b": Released(
        8_537_680_896,
        _config(
            "GemmaForCausalLM",
            "gemma",
            (256000, 3072, 24576, 28, 16, 8192),
            num_key_value_heads=16,
            head_dim=256,
            hidden_act="gelu",
        ),
    ),
    "gemma-2-2b": Released(
        2_614_341_888,
        _config("Gemma2ForCausalLM", "gemma2", (256000, 2304, 9216, 26, 8, 8192), num_key_value_heads=4, head_dim=256),
    ),
    "gemma-3-1b": Released(
        999_885_952,
        _config(
            "Gemma3ForCausalLM",
            "gemma3_text",
            (262144, 1152, 6912, 26, 4, 32768),
            num_key_value_heads=1,
            head_dim=256,
            sliding_window=512,
            sliding_window_pattern=6,
            rope_theta=1_000_000,
            rope_local_base_freq=10_000,
        ),
    ),
    "phi-2": Released(
        2_779_683_840,
        _config("PhiForCausalLM", "phi", (51200, 2560, 10240, 32, 32, 2048), partial_rotary_factor=0.4),
    ),
    "phi-3-mini-128k": Released(
        3_821_079_552,
        _config(
            "Phi3ForCausalLM",
            "phi3",
            (32064, 3072, 8192, 32, 32, 131072),
            num_key_value_heads=32,
            original_max_position_embeddings=4096,
            sliding_window=262144,
            rope_scaling={"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [4.0] * 48},
        ),
    ),
    "stablelm-3b-4e1t": Released(
        2_795_443_200,
        _config(
            "StableLmForCausalLM",
            "stablelm",
            (50304, 2560, 6912, 32, 32, 4096),
            num_key_value_heads=32,
            partial_rotary_factor=0.25,
        ),
    ),
    "pythia-1b": Released(
        1_011_781_632,
        _config(
            "GPTNeoXForCausalLM",
            "gpt_neox",
            (50304, 2048, 8192, 16, 8, 2048),
            rotary_pct=0.25,
            rotary_emb_base=10000,
        ),
    ),
    "starcoderbase-1b": Released(
        1_137_207_296,
        {
            "architectures": ["GPTBigCodeForCausalLM"],
            "model_type": "gpt_bigcode",
            "vocab_size": 49152,
            "n_embd": 2048,
            "n_inner": 8192,
            "n_layer": 24,
            "n_head": 16,
            "n_positions": 8192,
        },
    ),
    "starcoder2-3b": Released(
        3_030_371_328,
        _config(
            "Starcoder2ForCausalLM",
            "starcoder2",
            (49152, 3072, 12288, 30, 24, 16384),
            num_key_value_heads=2,
            sliding_window=4096,
        ),
    ),
}
