from faster_whisper import WhisperModel

from runtime.whisper.speech_text import SpeechText
from tests.fakes.tiny_whisper import LANGUAGES


def test_a_language_is_known_when_the_model_has_a_token_for_it(speech_text: SpeechText) -> None:
    assert all(speech_text.knows(code) for code in LANGUAGES)
    assert not speech_text.knows("it"), "of the family, not of this model"
    assert not speech_text.knows("xx")
    assert not speech_text.knows("startoftranscript")


def test_an_english_model_knows_english(whisper_model: WhisperModel) -> None:
    text = SpeechText(whisper_model.hf_tokenizer, ["en"], is_multilingual=False)
    assert text.knows("en")
    assert not text.knows("de")
    assert text.wrapped("de", False).sot_sequence == [text.wrapped("en", False).sot]


def test_a_task_is_a_part_of_the_prompt(speech_text: SpeechText) -> None:
    transcribe, translate = (speech_text.wrapped("de", is_translated) for is_translated in (False, True))
    assert transcribe.sot_sequence[:2] == translate.sot_sequence[:2]
    assert transcribe.sot_sequence[2] == transcribe.transcribe
    assert translate.sot_sequence[2] == translate.translate
    assert speech_text.wrapped("de", True) is translate


def test_text_is_its_tokens(speech_text: SpeechText) -> None:
    token_ids = speech_text.encode(" the hearth")
    assert speech_text.wrapped("en", False).decode(token_ids) == " the hearth"
