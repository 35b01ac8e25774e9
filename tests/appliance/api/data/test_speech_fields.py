import pytest

from appliance.api.data.speech_fields import (
    AlignmentFields,
    ListeningFields,
    TranscriptionFields,
    check_models,
    clip_s,
    granularities,
    temperatures,
)
from appliance.errors import HearthError


def test_a_clip_is_as_long_as_the_model_hears_at_most() -> None:
    assert clip_s(ListeningFields()) is None
    assert clip_s(ListeningFields(max_clip_len=12.5)) == 12.5
    assert clip_s(ListeningFields(max_clip_len=float("inf"))) == 30.0


def test_temperatures_are_one_or_several() -> None:
    assert temperatures(None) == []
    assert temperatures("0.0") == [0.0]
    assert temperatures("0,0.5, 1") == [0.0, 0.5, 1.0]
    for text in ("-0.1", "1.1", "0,,1", "[0]", "inf"):
        with pytest.raises(HearthError, match="temperature"):
            temperatures(text)


def test_segments_are_timed_unless_something_else_is_asked() -> None:
    assert granularities(ListeningFields()) == {"segment"}
    fields = ListeningFields(response_format="verbose_json", timestamp_granularities="word")
    assert granularities(fields) == {"word"}


def test_a_model_that_is_not_here_is_refused_only_where_it_would_be_used() -> None:
    old_client = TranscriptionFields(alignment_model="tdnn_ffn", diarization_model="pyannote")
    assert check_models(old_client, has_words=False, replaced=[]) == ["alignment_model", "diarization_model"]
    with pytest.raises(HearthError, match="tdnn_ffn is not installed here"):
        check_models(old_client, has_words=True, replaced=["mms_fa"])


def test_the_operator_may_have_the_speech_model_stand_in_for_another() -> None:
    fields = AlignmentFields(text="a", alignment_model="tdnn_ffn")
    assert check_models(fields, has_words=True, replaced=["tdnn_ffn"]) == ["alignment_model"]


def test_the_models_that_are_here_may_be_named() -> None:
    fields = TranscriptionFields(vad_model="silero", alignment_model="whisper")
    assert check_models(fields, has_words=True, replaced=[]) == []
