"""How long after a word was said it is shown, and is final, in conversations that come as fast as they are spoken.

The speech is that of the built-in speech model's tests, where the end of every word is known, the model that one; the
engine is driven as a worker's main thread drives it, without the socket. Words are matched in their order; those that
were heard wrongly are left out of the times and counted. One JSON line per row.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import numpy as np
from faster_whisper.audio import decode_audio

from models.builtin import EMBER_WHISPER
from runtime.protocol import AnyPiece, Failed
from runtime.tasks.speech import AudioChunk, Heard, Listen, Listening, Segment
from tests.fakes.tiny_listener import TinyListener

SPEECH = Path(__file__).parents[1] / "tests" / "models" / "builtin" / "speech"
CHUNK_S = 0.1
SAMPLE_RATE = 16_000
PAUSE_S = 1.0
"""Between two recordings."""
NUM_CONVERSATIONS = (1, 4)
MEMORY_BUDGET_BYTES = 2**32


class Script(NamedTuple):
    """What is said in a conversation."""

    data: bytes
    """Of 16-bit samples."""
    words: list[tuple[str, float]]
    """With the second in which each ends."""


class Conversation:
    """One client: what it was told of each word, and when."""

    def __init__(self, request_id: str, script: Script) -> None:
        self.request_id = request_id
        self.script = script
        self.position = 0
        self._segments: dict[int, Segment] = {}
        self._times: dict[tuple[int, int], dict[str, float]] = {}

    def note(self, piece: AnyPiece, now_s: float) -> None:
        for segment in piece.segments if isinstance(piece, Heard) else []:
            self._segments[segment.id] = segment
            for index, word in enumerate(segment.words or []):
                times = self._times.setdefault((segment.id, index), {})
                times.setdefault(f"shown {word.word.strip()}", now_s)
                if word.is_final:
                    times.setdefault("final", now_s)

    def latencies(self) -> tuple[list[float], list[float], int]:
        """From the end of a word to when it was shown, and final; and how many words were heard wrongly."""
        heard = [
            (word.word.strip(), self._times[number, index])
            for number in sorted(self._segments)
            for index, word in enumerate(self._segments[number].words or [])
        ]
        shown, final, at = [], [], 0
        for word, end_s in self.script.words:
            index = next((index for index in range(at, min(at + 3, len(heard))) if heard[index][0] == word), None)
            if index is None:
                continue
            at = index + 1
            times = heard[index][1]
            shown.append(times[f"shown {word}"] - end_s)
            if "final" in times:
                final.append(times["final"] - end_s)
        return shown, final, len(self.script.words) - len(shown)


def main() -> None:
    arguments = _parse_arguments()
    listener = TinyListener(
        arguments.model,
        compute_type=arguments.compute_type,
        num_threads=arguments.threads,
        memory_budget_bytes=MEMORY_BUDGET_BYTES,
    )
    conditions = {
        "model": arguments.model.name,
        "compute_type": arguments.compute_type,
        "threads": arguments.threads,
        "cpus": os.cpu_count(),
        "chunk_s": CHUNK_S,
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }
    for num_conversations in arguments.conversations:
        row = _measure(listener, num_conversations)
        print(json.dumps({"row": f"conversations_{num_conversations}"} | row | {"conditions": conditions}), flush=True)
    listener.close()


def _measure(listener: TinyListener, num_conversations: int) -> dict[str, object]:
    script = read_script()
    conversations = [Conversation(f"{num_conversations} {index}", script) for index in range(num_conversations)]
    frontend, engine = listener.loaded.frontend, listener.loaded.engine
    for conversation in conversations:
        listening = Listening(language="en", has_words=True)
        task = Listen(request_id=conversation.request_id, tenant=conversation.request_id, listening=listening)
        engine.add(frontend.prepare(task))
    began = time.perf_counter()
    by_id = {conversation.request_id: conversation for conversation in conversations}
    unfinished = set(by_id)
    while unfinished:
        now_s = time.perf_counter() - began
        for conversation in conversations:
            _feed(listener, conversation, now_s)
        if not engine.has_work():
            time.sleep(CHUNK_S / 10)
            continue
        rendered = frontend.render(engine.step())
        assert not rendered.failures, rendered.failures
        for piece in rendered.pieces:
            assert not isinstance(piece, Failed)
            by_id[piece.request_id].note(piece, time.perf_counter() - began)
            unfinished -= {piece.request_id} if piece.is_last else set()
    return _summary(conversations, len(script.data) / 2 / SAMPLE_RATE)


def _feed(listener: TinyListener, conversation: Conversation, now_s: float) -> None:
    """All that was spoken by now, in chunks as clients send them."""
    step = int(CHUNK_S * SAMPLE_RATE) * 2
    data = conversation.script.data
    while conversation.position < len(data) and (conversation.position + step) / 2 / SAMPLE_RATE <= now_s:
        chunk = data[conversation.position : conversation.position + step]
        conversation.position += step
        is_last = conversation.position >= len(data)
        listener.loaded.engine.feed(
            conversation.request_id, AudioChunk(request_id=conversation.request_id, data=chunk, is_last=is_last)
        )


def _summary(conversations: list[Conversation], sound_s: float) -> dict[str, object]:
    shown: list[float] = []
    final: list[float] = []
    num_wrong = 0
    for conversation in conversations:
        some_shown, some_final, wrong = conversation.latencies()
        shown, final, num_wrong = shown + some_shown, final + some_final, num_wrong + wrong
    return {
        "sound_s": round(sound_s, 1),
        "words": len(shown) + num_wrong,
        "heard_wrongly": num_wrong,
        "shown_after_s": _spread(shown),
        "final_after_s": _spread(final),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(median(seconds), 3), "p90": round(quantiles(seconds, n=10)[-1], 3)}


def read_script() -> Script:
    """All recordings, one after the other."""
    said: dict[str, list[list[tuple[str, float, float]]]] = json.loads((SPEECH / "said.json").read_text())
    parts, words, at_s = [], [], 0.0
    for name, phrases in said.items():
        sound = np.asarray(decode_audio(str(SPEECH / name)))
        parts += [sound, np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32)]
        words += [(word, at_s + end) for phrase in phrases for word, _, end in phrase]
        at_s += len(sound) / SAMPLE_RATE + PAUSE_S
    samples = np.rint(np.concatenate(parts) * 32768).clip(-32768, 32767).astype("<i2")
    return Script(samples.tobytes(), words)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, nargs="+", default=list(NUM_CONVERSATIONS))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", type=Path, default=EMBER_WHISPER.directory)
    parser.add_argument("--compute-type", default="float32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
