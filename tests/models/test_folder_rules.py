import pytest

from models.folder_rules import name_ignored, refuse_pickles
from models.refusal import ModelRefused, RefusalReason


@pytest.mark.parametrize("name", ["pytorch_model.bin", "unet/weights.PT", "x.ckpt", "a/b/c.pickle"])
def test_a_pickle_is_refused_wherever_it_lies(name: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        refuse_pickles(["config.json", name])
    assert (refused.value.reason, refused.value.file) == (RefusalReason.PICKLE, name)


def test_what_is_never_used_is_told_by_kind() -> None:
    names = ["unet/code.py", "a.safetensors", "b.safetensors", "c.safetensors", "d.safetensors", "README.md"]
    assert name_ignored(names, ["original"]) == [
        "unet/code.py: Python code is never run",
        "a.safetensors, b.safetensors, c.safetensors and 1 more: not part of the checkpoint, ignored",
        "original: folders are ignored",
    ]
