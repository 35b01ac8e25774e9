import pytest

from appliance.errors import Code, HearthError
from appliance.services.import_sources import FILES_MAX, wanted


def test_files_of_a_model_are_taken_and_no_others() -> None:
    names = ["config.json", "model-00001-of-00002.safetensors", "chat_template.jinja", "tokenizer.model", "merges.txt"]
    others = ["pytorch_model.bin", "modeling.py", "onnx/model.json", "../config.json", ".gitattributes", "logo.png"]
    assert wanted(dict.fromkeys([*names, *others], 1), "it") == dict.fromkeys(names, 1)
    assert wanted({"adapter_config.json": 1}, "it") == {"adapter_config.json": 1}


@pytest.mark.parametrize(
    "sizes", [{}, {"notes.txt": 1}, dict.fromkeys(["config.json", *map("{}.json".format, range(FILES_MAX))], 1)]
)
def test_what_holds_no_model_or_too_much_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(HearthError) as caught:
        wanted(sizes, "it")
    assert caught.value.code is Code.INVALID


def test_components_in_folders_are_taken() -> None:
    names = ["model_index.json", "unet/config.json", "controlnet/canny/config.json"]
    others = ["unet/../secret.json", "unet/.hidden.json", "a/b/c/d.json", "unet/code.py"]
    assert sorted(wanted(dict.fromkeys([*names, *others], 1), "it")) == sorted(names)
