"""What the fake router's workers hear in a file: always the same two sentences, and how many bytes they were sent."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator

from models.info import WhisperInfo
from runtime.message import Used
from runtime.protocol import AnyFollowUp, AnyPiece
from runtime.tasks.speech import Align, AudioChunk, Segment, Transcribe, Transcribed, Word

LISTENER = WhisperInfo(
    architecture="WhisperForConditionalGeneration",
    model_type="whisper",
    dtype="int8",
    num_parameters=1000,
    weight_bytes=1000,
    is_multilingual=True,
    num_mel_bins=80,
    num_encoder_layers=1,
    num_decoder_layers=2,
    hidden_size=8,
)
DURATION_S = 4.5
SENTENCES = (" Hello there.", " Say <b> & go --> on.")
TEXT = "Hello there. Say <b> & go --> on."
LANGUAGE = "de"


def segment_of(index: int, text: str, has_words: bool) -> Segment:
    start, end = 2.0 * index, 2.0 * index + 1.5
    spoken = text.split()
    step = 1.5 / len(spoken)
    words = [
        Word(word=f" {word}", start=start + step * place, end=start + step * (place + 1), probability=0.5)
        for place, word in enumerate(spoken)
    ]
    return Segment(
        id=index,
        seek=200 * index,
        start=start,
        end=end,
        text=text,
        token_ids=[index + 1, index + 2],
        temperature=0.2,
        avg_logprob=-0.5,
        compression_ratio=1.25,
        no_speech_prob=0.125,
        words=words if has_words else None,
    )


async def listen(
    task: Transcribe | Align, follow_ups: AsyncIterator[AnyFollowUp]
) -> AsyncGenerator[list[AnyPiece], None]:
    """Once the whole file is there, one piece for each sentence, and a last one of nothing."""
    received = bytearray()
    is_last = False
    async for chunk in follow_ups:
        assert isinstance(chunk, AudioChunk)
        assert chunk.request_id == task.request_id
        assert not is_last, "something follows the last chunk"
        received += chunk.data
        is_last = chunk.is_last
    assert is_last
    assert len(received) == task.num_bytes
    assert hashlib.sha256(received).hexdigest() == task.sha256
    texts = [task.text] if isinstance(task, Align) else SENTENCES
    has_words = isinstance(task, Align) or task.listening.has_words
    for index, text in enumerate(texts):
        yield [
            Transcribed(
                request_id=task.request_id,
                segments=[segment_of(index, text, has_words)],
                language="" if index else LANGUAGE,
                language_probability=0.0 if index else 0.75,
                duration_s=0.0 if index else DURATION_S,
                used=Used(audio_ms=0 if index else int(DURATION_S * 1000)),
            )
        ]
    yield [Transcribed(request_id=task.request_id, is_last=True)]
