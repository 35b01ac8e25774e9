from models.folder_parts import has_addon, has_model, model_files

SDXL = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "controlnet/canny/config.json",
    "controlnet/canny/diffusion_pytorch_model.safetensors",
    "safety_checker/model.safetensors",
]


def test_a_diffusers_folder_keeps_its_components_and_nothing_in_other_formats() -> None:
    others = [
        "sd_xl_base_1.0.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "vae_decoder/model.onnx",
        "vae_1_0/config.json",
        "pipeline.py",
        "comparison.png",
    ]
    assert model_files([*SDXL, *others]) == sorted(SDXL)


def test_weights_in_half_precision_are_taken_where_there_are_no_others() -> None:
    names = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors"]
    assert model_files(names) == names


def test_a_sentence_transformers_folder_keeps_what_its_modules_can_be() -> None:
    names = ["1_Pooling/config.json", "2_Dense/model.safetensors", "config.json", "model.safetensors", "modules.json"]
    others = ["onnx/model.onnx", "onnx/config.json", "openvino/openvino_model.bin", "2_Dense/pytorch_model.bin"]
    assert model_files([*names, *others]) == names
    assert model_files([*names[:2], *names[2:4]]) == names[2:4], "no modules.json calls for those folders"


def test_model_bin_is_taken_only_beside_what_makes_it_one_of_ctranslate2() -> None:
    assert "model.bin" in model_files(["model.bin", "config.json", "vocabulary.json"])
    assert "model.bin" not in model_files(["model.bin", "config.json", "vocab.json"])


def test_models_and_addons_are_told_by_their_files() -> None:
    assert has_model(["config.json"])
    assert has_model(["model_index.json"])
    assert not has_model(["README.txt", "tokenizer.json"])
    assert has_addon(["adapter_config.json"])
    assert has_addon(["my_style.safetensors"])
    assert not has_addon(["config.json", "model.safetensors"])
