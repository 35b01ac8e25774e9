from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.errors import Code, HearthError
from appliance.services.quantising import quantise
from models.llm_folder import inspect_llm
from runtime.quantiser.messages import Progress, Quantise


def asked(source: Path, target: Path) -> Quantise:
    target.mkdir(exist_ok=True)
    return Quantise(source_dir=str(source), file_sha256=inspect_llm(source).file_sha256, target_dir=str(target))


async def test_a_process_of_its_own_does_the_work_and_tells_how_far_it_is(tiny_model: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    await quantise(asked(tiny_model, tmp_path / "target"), told.append)
    assert told[-1].num_bytes == told[-1].total_bytes > 0
    assert (tmp_path / "target" / "model.safetensors.index.json").exists()


async def test_a_refusal_is_told_from_an_end_without_a_word(tiny_model: Path, tmp_path: Path) -> None:
    wanted = asked(tiny_model, tmp_path / "target")
    with pytest.raises(HearthError, match=r"config\.json.*missing") as refused:
        await quantise(replace(wanted, source_dir=str(tmp_path / "target")), lambda progress: None)
    assert refused.value.code is Code.INVALID
    with pytest.raises(HearthError) as ended:
        await quantise(replace(wanted, target_dir=str(tmp_path / "nowhere")), lambda progress: None)
    assert ended.value.code is Code.UNAVAILABLE
