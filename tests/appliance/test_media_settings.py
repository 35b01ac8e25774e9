import pytest

from appliance.config import GIB, load_config
from appliance.errors import HearthError
from runtime.settings import WhisperSettings


def test_origins_are_checked_at_start() -> None:
    environ = {"HEARTH_AUDIO_ORIGINS": "https://sounds.test http://10.0.0.1:9000"}
    assert load_config(environ=environ).speech.audio_origins == ["https://sounds.test", "http://10.0.0.1:9000"]
    for origin in ("sounds.test", "ftp://sounds.test", "https://sounds.test/path"):
        with pytest.raises(HearthError, match="audio_origins"):
            load_config(environ={"HEARTH_AUDIO_ORIGINS": origin})


def test_names_of_models_come_from_the_environment_as_words() -> None:
    config = load_config(environ={"HEARTH_REPLACED_ALIGNMENT_MODELS": "tdnn_ffn mms_fa"})
    assert config.speech.replaced_alignment_models == ["tdnn_ffn", "mms_fa"]


def test_workers_take_no_larger_files_than_a_gibibyte() -> None:
    assert WhisperSettings(device="cpu", memory_budget_bytes=1, compute_type="int8").max_audio_bytes == GIB
    with pytest.raises(HearthError, match="audio_bytes_max"):
        load_config(environ={"HEARTH_AUDIO_BYTES_MAX": str(GIB + 1)})
