"""What the fake router's workers hear in a conversation: a word for every message of sound, the last one tentative."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from runtime.message import Used
from runtime.protocol import AnyFollowUp, AnyPiece
from runtime.tasks.speech import AudioChunk, Cleared, ClearState, Heard, Listen, Segment, Trace, Traced, Word

LANGUAGE = "de"
WORD_S = 0.5
_BYTES_PER_MS = 32


def segment_of(task: Listen, num_words: int) -> Segment:
    words = [
        Word(
            word=f" word{number}",
            start=WORD_S * number,
            end=WORD_S * (number + 1),
            probability=0.75,
            is_final=number < num_words - 1,
        )
        for number in range(num_words)
    ]
    return Segment(
        id=0,
        seek=0,
        start=0.0,
        end=WORD_S * num_words,
        text="".join(word.word for word in words),
        words=words if task.listening.has_words else None,
    )


async def converse(task: Listen, follow_ups: AsyncIterator[AnyFollowUp]) -> AsyncGenerator[list[AnyPiece], None]:
    num_words = 0
    async for item in follow_ups:
        assert item.request_id == task.request_id
        match item:
            case AudioChunk(data=data):
                num_words += 1
                used = Used(audio_ms=len(data) // _BYTES_PER_MS)
                segments = [segment_of(task, num_words)]
                yield [Heard(request_id=task.request_id, segments=segments, language=LANGUAGE, used=used)]
            case Trace(trace_id=trace_id):
                yield [Traced(request_id=task.request_id, trace_id=trace_id)]
            case ClearState(reset_id=reset_id):
                num_words = 0
                yield [Cleared(request_id=task.request_id, reset_id=reset_id)]
    await asyncio.Event().wait()  # a worker is never done: it is told when the client left
