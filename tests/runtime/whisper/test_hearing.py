from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import ctranslate2
import pytest
from faster_whisper import WhisperModel

from runtime.tasks.speech import Listening
from runtime.whisper.hearing import Hearing, LastSpeech
from runtime.whisper.speech_text import SpeechText
from runtime.whisper.windows import Window, WindowText
from tests.fakes.tiny_whisper import speech

ENGLISH = Listening(language="en")
LADDER = [0.0, 0.4, 0.8]


def window(seed: int = 0, listening: Listening = ENGLISH, *, duration_s: float = 4.0, **fields: Any) -> Window:
    given = {"start_s": 0.0, "prompt_token_ids": [], "language": listening.language, **fields}
    return Window(samples=speech(duration_s, seed=seed), listening=listening, **given)


def hear(hearing: Hearing, windows: Sequence[Window]) -> list[WindowText]:
    return hearing.hear(windows, LastSpeech([str(index) for index in range(len(windows))], {}))


def told(text: WindowText) -> list[tuple[object, ...]]:
    return [
        (one.text, one.start, one.end, [(w.word, w.start, w.end) for w in one.words or []]) for one in text.segments
    ]


def test_any_mixture_in_a_batch_is_heard_as_each_alone(hearing: Hearing) -> None:
    windows = [
        window(0),
        window(1, Listening(language="de", has_words=True)),
        window(2, Listening(language="fr", is_translated=True)),
        window(3, Listening(has_words=True), prompt_token_ids=[300, 301]),
        window(4, known_text="the hearth keeps the house warm"),
        window(5, Listening(language="de", has_words=True), duration_s=30.0),
    ]
    together = hear(hearing, windows)
    alone = [hear(hearing, [one])[0] for one in windows]
    assert [told(text) for text in together] == [told(text) for text in alone]
    assert [text.language for text in together] == [text.language for text in alone]
    assert together[3].language_probability < 1
    assert together[0].language_probability == 1


def test_times_are_those_of_the_windows_clock(hearing: Hearing) -> None:
    listening = Listening(language="en", has_words=True)
    at_once, later = hear(hearing, [window(1, listening), window(1, listening, start_s=100.0)])
    assert at_once.segments
    for one, other in zip(at_once.segments, later.segments, strict=True):
        assert other.text == one.text
        assert other.start == pytest.approx(one.start + 100)
        assert other.seek == 10_000
        for word, same in zip(one.words or [], other.words or [], strict=True):
            assert same.end == pytest.approx(word.end + 100)


def test_a_known_text_is_returned_word_for_word(hearing: Hearing) -> None:
    (text,) = hear(hearing, [window(0, known_text='  It is "warm", and the kettle sings. ')])
    (segment,) = text.segments
    words = [word.word for word in segment.words or []]
    assert words == [" It", " is", ' "warm",', " and", " the", " kettle", " sings."]
    times = [time for word in segment.words or [] for time in (word.start, word.end)]
    assert times == sorted(times)


def test_special_tokens_in_a_clients_text_are_text(hearing: Hearing, whisper_model: WhisperModel) -> None:
    whisper_model.hf_tokenizer.encode_special_tokens = True
    (text,) = hear(hearing, [window(0, known_text="one <|endoftext|> two")])
    whisper_model.hf_tokenizer.encode_special_tokens = False
    assert "".join(word.word for word in text.segments[0].words or []) == " one <|endoftext|> two"


class ScriptedModel:
    """CTranslate2's model, with what it generates told beforehand: token ids and score, by temperature."""

    def __init__(self, model: WhisperModel, script: dict[float, tuple[list[int], float, float]]) -> None:
        self.temperatures: list[float] = []
        self._inner: Any = model
        self._script = script
        self.model = SimpleNamespace(generate=self._generate)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _generate(self, encoded: Any, prompts: list[list[int]], **options: Any) -> list[Any]:
        temperature = options.get("sampling_temperature", 0.0)
        self.temperatures.append(temperature)
        token_ids, score, no_speech_prob = self._script[temperature]
        result = SimpleNamespace(sequences_ids=[token_ids], scores=[score], no_speech_prob=no_speech_prob)
        return [result] * len(prompts)


WARM, SINGS = [262, 263], [270, 271]
GOOD = (WARM, -0.1, 0.0)
IMPROBABLE = (SINGS, -3.0, 0.0)
REPETITIVE = (WARM * 60, -0.1, 0.0)
SILENT = (SINGS, -3.0, 0.9)


@pytest.mark.parametrize(
    ("script", "tried", "chosen"),
    [
        ([GOOD], [0.0], 0.0),
        ([IMPROBABLE, GOOD], [0.0, 0.4], 0.4),
        ([REPETITIVE, IMPROBABLE, GOOD], LADDER, 0.8),
        ([REPETITIVE, IMPROBABLE, REPETITIVE], LADDER, 0.4),
        ([REPETITIVE, REPETITIVE, REPETITIVE], LADDER, 0.0),
        ([SILENT], [0.0], 0.0),
    ],
    ids=["good", "improbable", "repetitive", "none-good", "all-repetitive", "silent"],
)
def test_bad_text_is_tried_at_the_next_temperature(
    whisper_model: WhisperModel,
    speech_text: SpeechText,
    script: list[tuple[list[int], float, float]],
    tried: list[float],
    chosen: float,
) -> None:
    model = ScriptedModel(whisper_model, dict(zip(LADDER, script, strict=False)))
    hearing = Hearing(model, speech_text)
    (text,) = hear(hearing, [window(0, Listening(language="en", temperatures=LADDER))])
    assert model.temperatures == tried
    assert [segment.temperature for segment in text.segments] == [chosen]


def test_only_bad_windows_are_tried_again(hearing: Hearing) -> None:
    ctranslate2.set_random_seed(0)
    ladder = Listening(language="en", temperatures=[0.0, 1.0])
    plain = hear(hearing, [window(seed) for seed in range(3)])
    again = hear(hearing, [window(seed, ladder) for seed in range(3)])
    for first, second in zip(plain, again, strict=True):
        is_good = all(one.avg_logprob >= -1 for one in first.segments)
        if is_good and {one.temperature for one in second.segments} == {0.0}:
            assert told(first) == told(second)


def test_windows_at_a_temperature_are_sampled(hearing: Hearing) -> None:
    ctranslate2.set_random_seed(1)
    hot = Listening(language="en", temperatures=[1.0])
    (text,) = hear(hearing, [window(1, hot)])
    assert all(segment.temperature == 1.0 for segment in text.segments)
