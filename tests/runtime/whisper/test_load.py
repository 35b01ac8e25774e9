from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine import LoadRefused
from runtime.message import FailureCode
from runtime.protocol import Failed
from runtime.tasks.speech import Align, Listening, Transcribe, Transcribed
from runtime.whisper.load import ModelWeights, load_whisper
from tests.fakes.tiny_listener import GIB, TinyListener, chunks_of, load_message
from tests.fakes.tiny_whisper import build_tiny_whisper, speech, wav_file


@pytest.fixture(scope="module")
def listener(tiny_whisper: Path) -> Iterator[TinyListener]:
    listener = TinyListener(tiny_whisper)
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return wav_file(speech(8), tmp_path_factory.mktemp("sound") / "speech.wav").read_bytes()


def transcribe(request_id: str, data: bytes, **options: object) -> Transcribe:
    given = {"listening": Listening(language="en"), "num_bytes": len(data), **options}
    return Transcribe(request_id=request_id, **given)  # type: ignore[arg-type]


def test_a_loaded_model_answers_a_file(listener: TinyListener, recording: bytes) -> None:
    assert listener.loaded.loaded.footprint_bytes > 0
    assert set(listener.loaded.loaded.load_ms) == {"inspection", "weights", "warm-up"}
    (piece,) = listener.ask(transcribe("a", recording), chunks_of("a", recording, size=10_000))
    assert isinstance(piece, Transcribed)
    assert piece.is_last
    assert piece.language == "en"
    assert piece.duration_s == pytest.approx(8)
    assert piece.segments


def test_callers_that_come_together_get_what_they_get_alone(listener: TinyListener, tmp_path: Path) -> None:
    files = [
        wav_file(speech(2 + seed, seed=seed), tmp_path / f"{seed}.wav").read_bytes() for seed in range(4)
    ]  # fmt: skip
    listening = Listening(has_words=True)
    alone = [
        listener.ask(transcribe(f"alone {index}", data, listening=listening), chunks_of(f"alone {index}", data))
        for index, data in enumerate(files)
    ]
    together = listener.ask_all(
        [
            (transcribe(f"with {index}", data, listening=listening), chunks_of(f"with {index}", data))
            for index, data in enumerate(files)
        ]
    )
    for index, pieces in enumerate(alone):
        assert texts(pieces) == texts(together[f"with {index}"])
    assert len({tuple(map(str, texts(pieces))) for pieces in alone}) > 1, "what is said differs"


def texts(pieces: object) -> list[tuple[str, float, float, int]]:
    assert isinstance(pieces, list)
    assert not any(isinstance(piece, Failed) for piece in pieces)
    return [(one.text, one.start, one.end, len(one.words or [])) for piece in pieces for one in piece.segments]


def test_a_text_is_aligned(listener: TinyListener, recording: bytes) -> None:
    text = "The hearth keeps the house warm. The kettle sings!"
    align = Align(request_id="b", text=text, num_bytes=len(recording), language="en")
    (piece,) = listener.ask(align, chunks_of("b", recording))
    assert isinstance(piece, Transcribed)
    assert [segment.text.strip() for segment in piece.segments] == [
        "The hearth keeps the house warm.",
        "The kettle sings!",
    ]
    words = [word for segment in piece.segments for word in segment.words or []]
    assert "".join(word.word for word in words).strip() == text
    assert all(0 <= word.start <= word.end <= 8.5 for word in words)


def test_a_file_that_is_no_sound_fails_alone(listener: TinyListener, recording: bytes) -> None:
    bad = b"no sound at all " * 100
    answers = listener.ask_all(
        [
            (transcribe("bad", bad), chunks_of("bad", bad)),
            (transcribe("good", recording), chunks_of("good", recording)),
        ]
    )
    (failure,) = answers["bad"]
    assert isinstance(failure, Failed)
    assert failure.code is FailureCode.INVALID
    assert failure.param == "file"
    (piece,) = answers["good"]
    assert isinstance(piece, Transcribed)


def test_an_english_only_model_refuses_what_it_cannot_do(tmp_path: Path, recording: bytes) -> None:
    listener = TinyListener(build_tiny_whisper(tmp_path / "english", is_multilingual=False))
    (piece,) = listener.ask(transcribe("a", recording, listening=Listening()), chunks_of("a", recording))
    assert isinstance(piece, Transcribed)
    assert piece.language == "en"
    for listening, param in ((Listening(language="de"), "language"), (Listening(is_translated=True), "model")):
        (failure,) = listener.ask(transcribe("b", recording, listening=listening))
        assert isinstance(failure, Failed)
        assert failure.param == param
    listener.close()


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"compute_type": "float16"}, "does not compute float16"),
        ({"memory_budget_bytes": GIB // 1024}, "do not hold the model"),
        ({"device": "cuda:0", "memory_budget_bytes": 4 * GIB}, "cannot use cuda"),
    ],
)
def test_a_load_is_refused_where_it_cannot_be_served(
    tiny_whisper: Path, settings: dict[str, object], part: str
) -> None:
    with pytest.raises(LoadRefused, match=part):
        load_whisper(load_message(tiny_whisper, **settings), lambda stage, fraction: None)


def test_a_folder_that_has_changed_is_refused(tiny_whisper: Path) -> None:
    load = load_message(tiny_whisper)
    load.file_sha256["config.json"] = "0" * 64
    with pytest.raises(LoadRefused, match=r"config\.json"):
        load_whisper(load, lambda stage, fraction: None)


def test_a_sleeper_answers_as_before(listener: TinyListener, recording: bytes) -> None:
    before = listener.ask(transcribe("before", recording), chunks_of("before", recording))
    assert listener.loaded.engine.sleep() > 0
    assert listener.loaded.engine.wake() == {}, "on a CPU there is nothing to give back"
    after = listener.ask(transcribe("after", recording), chunks_of("after", recording))
    assert texts(before) == texts(after)


class ScriptedWeights:
    def __init__(self) -> None:
        self.told: list[object] = []

    def unload_model(self, *, to_cpu: bool) -> None:
        self.told.append(("unload", to_cpu))

    def load_model(self) -> None:
        self.told.append("load")


def test_on_a_device_sleep_keeps_the_weights_with_the_host() -> None:
    model = ScriptedWeights()
    weights = ModelWeights(model, is_on_host=False)
    assert weights.sleep() > 0
    assert weights.wake()["weights"] >= 0
    assert model.told == [("unload", True), "load"]
