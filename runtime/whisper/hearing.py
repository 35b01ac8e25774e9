"""From windows to text: what a Whisper model hears in a batch of them, of whichever callers.

The arithmetic is CTranslate2's, the rules are faster-whisper's, by its own code: features, prompts, segments out of
times, words out of attention. Windows that were not heard well enough are tried again at their next temperature.
Owns the model; knows nothing of sources, pieces and turns.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens
from numpy.typing import NDArray

from runtime.tasks.speech import Segment, Word
from runtime.whisper.speech_text import MAX_NUM_TOKENS, SpeechText
from runtime.whisper.windows import SAMPLE_RATE, Window, WindowText

BEAM_SIZE = 5
"""Beams at temperature 0; samples of which the best is taken at others."""
COMPRESSION_RATIO_MAX = 2.4
"""More repetitive text is tried again."""
LOGPROB_MIN = -1.0
"""Less probable text is tried again, unless there is nothing to hear."""
NO_SPEECH_MAX = 0.6
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word behind it, or before it."""

_Subsegment = dict[str, Any]
"""As faster-whisper's code passes it on: seek, start, end, tokens, and later words."""


class _Decoded(NamedTuple):
    token_ids: list[int]
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    temperature: float


class _KnownAlignment:
    """What faster-whisper's rules for words ask of a model, with the model's part done before, for a whole batch."""

    frames_per_second = 100

    def __init__(self, alignment: list[dict[str, Any]]) -> None:
        self._alignment = alignment

    def find_alignment(self, *_: object) -> list[list[dict[str, Any]]]:
        return [self._alignment]


class Hearing:
    """For one thread at a time."""

    def __init__(self, model: WhisperModel, text: SpeechText) -> None:
        self._model: Any = model
        self._text = text
        self._suppressed = get_suppressed_tokens(text.wrapped("en", False), [-1])

    def hear(self, windows: Sequence[Window], last_speech: "LastSpeech") -> list[WindowText]:
        """In their order."""
        encoded = _Encoded(self._model.encode(np.stack([self._features(window) for window in windows])))
        languages = self._detect(windows, encoded)
        tokenizers = [
            self._text.wrapped(language, window.listening.is_translated)
            for window, (language, _) in zip(windows, languages, strict=True)
        ]
        decoded = self._decode(windows, tokenizers, encoded)
        parts = [
            self._split(window, tokenizer, one)
            for window, tokenizer, one in zip(windows, tokenizers, decoded, strict=True)
        ]
        self._add_words(windows, tokenizers, encoded, parts, last_speech)
        return [
            WindowText(_segments(tokenizer, one, subsegments), language, probability)
            for tokenizer, one, subsegments, (language, probability) in zip(
                tokenizers, decoded, parts, languages, strict=True
            )
        ]

    def _features(self, window: Window) -> NDArray[np.float32]:
        features: NDArray[np.float32] = pad_or_trim(self._model.feature_extractor(window.samples)[..., :-1])
        return features

    def _detect(self, windows: Sequence[Window], encoded: "_Encoded") -> list[tuple[str, float]]:
        """Language and probability."""
        if not self._text.is_multilingual:
            return [("en", 1.0)] * len(windows)
        untold = [index for index, window in enumerate(windows) if window.language is None]
        found = (
            dict(zip(untold, self._model.model.detect_language(encoded.some(untold)), strict=True)) if untold else {}
        )
        return [
            (found[index][0][0][2:-2], found[index][0][1]) if window.language is None else (window.language, 1.0)
            for index, window in enumerate(windows)
        ]

    def _decode(self, windows: Sequence[Window], tokenizers: list[Any], encoded: "_Encoded") -> list[_Decoded]:
        """Each at its temperatures in turn, together with all that are at the same one and have as long a prompt."""
        prompts = [
            self._model.get_prompt(tokenizer, window.prompt_token_ids)
            for window, tokenizer in zip(windows, tokenizers, strict=True)
        ]
        tried: list[list[_Decoded]] = [
            [_known(tokenizer.encode(" " + window.known_text.strip()))] if window.known_text is not None else []
            for window, tokenizer in zip(windows, tokenizers, strict=True)
        ]
        unheard = [index for index, results in enumerate(tried) if not results]
        while unheard:
            groups: defaultdict[tuple[float, int], list[int]] = defaultdict(list)
            for index in unheard:
                temperatures = windows[index].listening.temperatures or [0.0]
                groups[temperatures[len(tried[index])], len(prompts[index])].append(index)
            for (temperature, _), indices in groups.items():
                results = self._generate(encoded.some(indices), [prompts[index] for index in indices], temperature)
                for index, result in zip(indices, results, strict=True):
                    tried[index].append(_judged(result, temperature, tokenizers[index]))
            unheard = [
                index
                for index in unheard
                if len(tried[index]) < len(windows[index].listening.temperatures) and not _is_good(tried[index][-1])
            ]
        return [_best(results) for results in tried]

    def _generate(self, encoded: Any, prompts: list[list[int]], temperature: float) -> list[Any]:
        if temperature > 0:
            how = {"beam_size": 1, "num_hypotheses": BEAM_SIZE, "sampling_topk": 0, "sampling_temperature": temperature}
        else:
            how = {"beam_size": BEAM_SIZE}
        results: list[Any] = self._model.model.generate(
            encoded,
            prompts,
            max_length=MAX_NUM_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            **how,
        )
        return results

    def _split(self, window: Window, tokenizer: Any, decoded: _Decoded) -> list[_Subsegment]:
        duration_s = len(window.samples) / SAMPLE_RATE
        seek = int(window.start_s * 100)
        if window.known_text is not None:
            end_s = window.start_s + duration_s
            return [{"seek": seek, "start": window.start_s, "end": end_s, "tokens": decoded.token_ids}]
        subsegments: list[_Subsegment]
        subsegments, _, _ = self._model._split_segments_by_timestamps(
            tokenizer, decoded.token_ids, window.start_s, _num_frames(window), duration_s, 0
        )
        for subsegment in subsegments:
            subsegment["seek"] = seek
        return subsegments

    def _add_words(
        self,
        windows: Sequence[Window],
        tokenizers: list[Any],
        encoded: "_Encoded",
        parts: list[list[_Subsegment]],
        last_speech: "LastSpeech",
    ) -> None:
        """The model's part for all of one language and task together, the rules window by window in their order."""
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            if window.listening.has_words or window.known_text is not None:
                groups[tuple(tokenizers[index].sot_sequence)].append(index)
        alignments: dict[int, list[dict[str, Any]]] = {}
        for indices in groups.values():
            tokenizer = tokenizers[indices[0]]
            texts = [
                [token for subsegment in parts[index] for token in subsegment["tokens"] if token < tokenizer.eot]
                for index in indices
            ]
            num_frames = [_num_frames(windows[index]) for index in indices]
            found = self._model.find_alignment(tokenizer, texts, encoded.some(indices), num_frames)
            alignments.update(zip(indices, found, strict=True))
        for index in sorted(alignments):
            window = windows[index]
            before_s = last_speech.get(index) if window.last_speech_s is None else window.last_speech_s
            known: Any = _KnownAlignment(alignments[index])
            after_s = WhisperModel.add_word_timestamps(
                known, [parts[index]], tokenizers[index], None, 0, PREPENDED, APPENDED, before_s
            )
            last_speech.set(index, float(after_s))


class LastSpeech(NamedTuple):
    """When speech ended before each window of a batch, as far as it is known from the source's windows before."""

    sources: Sequence[str]
    """Of each window."""
    end_s: dict[str, float]
    """By source; kept by the caller from batch to batch."""

    def get(self, index: int) -> float:
        return self.end_s.get(self.sources[index], 0.0)

    def set(self, index: int, end_s: float) -> None:
        self.end_s[self.sources[index]] = end_s


class _Encoded:
    """A batch as the encoder left it on the device."""

    def __init__(self, states: Any) -> None:
        self._states = states
        self._size = states.shape[0]

    def some(self, indices: list[int]) -> Any:
        """Those of a part of the batch; by way of the host, where it is not all of it."""
        if indices == list(range(self._size)):
            return self._states
        states = self._states.to_device(ctranslate2.Device.cpu)
        if states.dtype == ctranslate2.DataType.bfloat16:
            states = states.to(ctranslate2.DataType.float32)  # numpy knows no bfloat16
        return ctranslate2.StorageView.from_array(np.ascontiguousarray(np.array(states)[indices]))


def _num_frames(window: Window) -> int:
    return int(ceil(len(window.samples) / SAMPLE_RATE) * 100)


def _known(token_ids: list[int]) -> _Decoded:
    return _Decoded(token_ids, 0.0, 0.0, 0.0, 0.0)


def _judged(result: Any, temperature: float, tokenizer: Any) -> _Decoded:
    token_ids = list(result.sequences_ids[0])
    # The score is the mean over the tokens; the end of the text is a token, too, which it leaves out.
    avg_logprob = result.scores[0] * len(token_ids) / (len(token_ids) + 1)
    compression_ratio = get_compression_ratio(tokenizer.decode(token_ids).strip())
    return _Decoded(token_ids, avg_logprob, compression_ratio, result.no_speech_prob, temperature)


def _is_good(decoded: _Decoded) -> bool:
    is_improbable = decoded.avg_logprob < LOGPROB_MIN
    if is_improbable and decoded.no_speech_prob > NO_SPEECH_MAX:
        return True  # silence: no temperature makes text of it
    return not is_improbable and decoded.compression_ratio <= COMPRESSION_RATIO_MAX


def _best(tried: list[_Decoded]) -> _Decoded:
    """The first good one, which is the last; of bad ones the most probable that does not repeat itself."""
    if _is_good(tried[-1]) or len(tried) == 1:
        return tried[-1]
    varied = [decoded for decoded in tried if decoded.compression_ratio <= COMPRESSION_RATIO_MAX]
    return max(varied or tried, key=lambda decoded: decoded.avg_logprob)


def _segments(tokenizer: Any, decoded: _Decoded, subsegments: list[_Subsegment]) -> list[Segment]:
    """Those that say something."""
    segments = []
    for subsegment in subsegments:
        text = tokenizer.decode(subsegment["tokens"])
        if not text.strip():
            continue
        words = subsegment.get("words")
        segment = Segment(
            id=0,
            seek=subsegment["seek"],
            start=round(float(subsegment["start"]), 3),
            end=round(float(subsegment["end"]), 3),
            text=text,
            token_ids=subsegment["tokens"],
            temperature=decoded.temperature,
            avg_logprob=decoded.avg_logprob,
            compression_ratio=get_compression_ratio(text),
            no_speech_prob=decoded.no_speech_prob,
            words=None if words is None else [_word(word) for word in words],
        )
        segments.append(segment)
    return segments


def _word(word: dict[str, Any]) -> Word:
    return Word(
        word=word["word"],
        start=float(word["start"]),
        end=float(word["end"]),
        probability=float(word["probability"]),
    )
