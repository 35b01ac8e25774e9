import diffusers
import transformers

from models.pipelines import CLIP_TOKENIZERS, PIPELINES, SCHEDULERS, T5_TOKENIZERS, Part

LIBRARIES = {"diffusers": diffusers, "transformers": transformers}


def test_every_class_in_the_table_is_one_of_its_library() -> None:
    named = {("diffusers", name) for name in (*PIPELINES, *SCHEDULERS)} | CLIP_TOKENIZERS | T5_TOKENIZERS
    for pipeline in PIPELINES.values():
        named = named.union(*(part.classes for part in pipeline.parts.values()))
    for library, name in named:
        assert hasattr(LIBRARIES[library], name)


def test_weights_are_called_as_each_library_calls_them() -> None:
    part = Part(frozenset())
    assert part.weights_file("unet") == "unet/diffusion_pytorch_model.safetensors"
    assert part.weights_file("unet", "fp16") == "unet/diffusion_pytorch_model.fp16.safetensors"
    assert part.weights_index("unet") == "unet/diffusion_pytorch_model.safetensors.index.json"
    assert part.weights_index("unet", "fp16") == "unet/diffusion_pytorch_model.safetensors.index.fp16.json"
    assert Part(frozenset(), "model").weights_file("text_encoder") == "text_encoder/model.safetensors"


def test_only_flux_has_a_tokenizer_of_t5() -> None:
    flux, sdxl = PIPELINES["FluxPipeline"], PIPELINES["StableDiffusionXLPipeline"]
    assert flux.tokenizer_classes("tokenizer_2") == T5_TOKENIZERS
    assert flux.tokenizer_classes("tokenizer") == sdxl.tokenizer_classes("tokenizer_2") == CLIP_TOKENIZERS
