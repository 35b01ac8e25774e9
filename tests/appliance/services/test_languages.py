from faster_whisper.tokenizer import _LANGUAGE_CODES

from appliance.services.languages import CHINESE_SCRIPTS, LANGUAGES, language_code


def test_languages_are_those_of_the_engine() -> None:
    assert sorted(LANGUAGES) == sorted(_LANGUAGE_CODES)
    assert len(set(LANGUAGES.values())) == len(LANGUAGES)


def test_codes_and_names_are_known_in_any_case() -> None:
    assert language_code("en") == language_code("EN") == language_code("English") == "en"
    assert language_code("Haitian Creole") == "ht"
    assert language_code("klingon") is None
    assert language_code("") is None
    assert not {language_code(code) for code in CHINESE_SCRIPTS} - {None}
