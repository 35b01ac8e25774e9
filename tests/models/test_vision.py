from pathlib import Path

import msgspec
import pytest
from transformers import CLIPVisionConfig, LlamaConfig, MistralConfig, Qwen2VLConfig

from models.info import AreaSize, FixedSize, ModelInfo
from models.llm_folder import inspect_llm
from models.sizing import encoder_bytes, image_cache_bytes, replica_bytes
from models.vision import max_image_patches, num_image_tokens, text_config, text_half
from tests.fakes.tiny_vlm import IMAGE_EDGE, IMAGE_TOKEN_ID
from tests.models.vision_folders import Change, copied, refusal


def test_llava_is_described(llava: Path) -> None:
    info = inspect_llm(llava)
    assert (info.architecture, info.model_type) == ("LlavaForConditionalGeneration", "llava")
    assert (text_half(info).architecture, text_half(info).model_type) == ("LlamaForCausalLM", "llama")
    vision = info.vision
    assert vision is not None
    assert (vision.image_token_id, vision.tokens_per_image, vision.num_layers) == (IMAGE_TOKEN_ID, 16, 2)
    assert vision.size == FixedSize(height=IMAGE_EDGE, width=IMAGE_EDGE, shortest_edge=IMAGE_EDGE)
    assert "preprocessor_config.json" in info.file_sha256


def test_qwen2_vl_is_described(qwen: Path) -> None:
    info = inspect_llm(qwen)
    vision = info.vision
    assert vision is not None
    assert (text_half(info).architecture, vision.mrope_section) == ("Qwen2ForCausalLM", [2, 3, 3])
    assert vision.size == AreaSize(min_pixels=784, max_pixels=7840, multiple=14)
    assert num_image_tokens(vision, 42, 56) == 12


def test_memory_is_planned_for_the_encoder(qwen: Path) -> None:
    info = inspect_llm(qwen)
    assert info.vision is not None
    assert max_image_patches(info.vision) == 160
    assert image_cache_bytes(info, "float32") == 64 * 40 * 64 * 4
    assert encoder_bytes(info, "float32") == 160 * (8 * 32 + 2 * 128) * 4 + image_cache_bytes(info, "float32")
    blind = msgspec.structs.replace(info, vision=None)
    assert _replica_bytes(info) - _replica_bytes(blind) == encoder_bytes(info, "float32")


def _replica_bytes(info: ModelInfo) -> int:
    return replica_bytes(
        info,
        "float32",
        max_context_length=64,
        concurrency=1,
        max_batch_tokens=64,
        max_num_requests=4,
        is_cuda=False,
    )


def test_defaults_of_nested_configs_are_those_of_transformers() -> None:
    for kind in (LlamaConfig, MistralConfig):
        text = text_config(
            {
                "architectures": ["LlavaForConditionalGeneration"],
                "model_type": "llava",
                "text_config": {"model_type": kind.model_type},
            }
        )
        for name, value in text.items():
            if name not in {"architectures", "rope_scaling", "rope_parameters", "num_key_value_heads"}:
                assert value == getattr(kind(), name), name
    clip = CLIPVisionConfig()
    assert (clip.hidden_size, clip.num_hidden_layers, clip.patch_size, clip.image_size) == (768, 12, 32, 224)


def test_qwen2_vls_older_config_is_the_same_as_its_newer_one() -> None:
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    text = {"hidden_size": 1536, "num_attention_heads": 12, "vocab_size": 1000, "rope_scaling": rope}
    identity = {"architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl"}
    flat, nested = text_config({**identity, **text}), text_config({**identity, "text_config": text})
    assert {name: flat[name] for name in nested} == nested
    assert nested["rope_scaling"] == {"type": "default"}
    reference = Qwen2VLConfig(**text).text_config
    assert nested["rope_theta"] == reference.rope_parameters["rope_theta"]
    assert nested["rms_norm_eps"] == reference.rms_norm_eps


def test_a_model_that_reads_text_only_is_its_own_text_half() -> None:
    config = {"architectures": ["LlamaForCausalLM"]}
    assert text_config(config) is config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda config: config.update(model_type="llama"), "model_type"),
        (lambda config: config.update(text_config=None), "text_config"),
        (lambda config: config.update(text_config=[]), "text_config"),
        (lambda config: config["text_config"].update(model_type="gemma"), "gemma"),
        (lambda config: config["vision_config"].update(model_type="pixtral"), "pixtral"),
        (lambda config: config.update(vision_config=None), "vision_config"),
        (lambda config: config["vision_config"].update(num_attention_heads=3), "evenly"),
        (lambda config: config["vision_config"].update(image_size=10**9), "image_size"),
        (lambda config: config["vision_config"].update(image_size=56), "pixels"),
        (lambda config: config["vision_config"].update(num_hidden_layers=4), "missing"),
        (lambda config: config["vision_config"].update(hidden_act="magic"), "hidden_act"),
        (lambda config: config.update(projector_hidden_act="magic"), "projector_hidden_act"),
        (lambda config: config.update(vision_feature_layer=-5), "vision_feature_layer"),
        (lambda config: config.update(vision_feature_layer=[-2, -1]), "vision_feature_layer"),
        (lambda config: config.update(image_token_index=10_000), "image token"),
        (lambda config: config.update(quantization_config={"quant_method": "gptq"}), "quantised"),
    ],
)
def test_configs_that_cannot_be_served_are_refused(llava: Path, tmp_path: Path, change: Change, complaint: str) -> None:
    error = refusal(copied(llava, tmp_path, config=change))
    assert complaint in error.message
