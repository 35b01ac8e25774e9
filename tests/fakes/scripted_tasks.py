"""What the fake router's workers answer to tasks that are no generations, unless a test has a script of its own."""

import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import msgspec

from models.info import EmbeddingInfo
from runtime.message import Used
from runtime.protocol import AnyFollowUp, AnyPiece, OtherTask
from runtime.tasks.embedding import Embed, Embedded, Score, Scored
from runtime.tasks.images import Draw
from runtime.tasks.speech import Align, Transcribe
from tests.fakes.scripted_drawing import draw
from tests.fakes.scripted_speech import listen

NUM_DIMENSIONS = 4
NUM_TOKENS = 5
"""Of each input or document, whatever it says."""
ROWS_PER_PIECE = 2
EMBEDDING_VOCAB_SIZE = 100

EMBEDDER = EmbeddingInfo(
    architecture="BertModel",
    model_type="bert",
    dtype="float32",
    num_parameters=1000,
    weight_bytes=4000,
    max_context_length=16,
    vocab_size=EMBEDDING_VOCAB_SIZE,
    hidden_size=NUM_DIMENSIONS,
    intermediate_size=16,
    num_layers=1,
    num_heads=1,
    num_dimensions=NUM_DIMENSIONS,
    pooling="mean",
)

RANKER = msgspec.structs.replace(EMBEDDER, num_dimensions=1, pooling="none")


def vector_of(index: int, num_columns: int = NUM_DIMENSIONS) -> list[float]:
    """Of the input at that place; exact in float32."""
    return [index + column / 8 for column in range(num_columns)]


def score_of(document: str) -> float:
    """Longer ones are better."""
    return 1 - 1 / (1 + len(document))


async def embed(task: Embed) -> AsyncGenerator[list[AnyPiece], None]:
    num_columns = len(task.logit_token_ids) or task.num_dimensions or NUM_DIMENSIONS
    for first in range(0, len(task.inputs), ROWS_PER_PIECE):
        indexes = range(first, min(first + ROWS_PER_PIECE, len(task.inputs)))
        values = b"".join(struct.pack(f"<{num_columns}f", *vector_of(index, num_columns)) for index in indexes)
        yield [
            Embedded(
                request_id=task.request_id,
                first_index=first,
                num_columns=num_columns,
                values=values,
                is_last=indexes[-1] == len(task.inputs) - 1,
                used=Used(num_prompt_tokens=NUM_TOKENS * len(indexes)),
            )
        ]


async def score(task: Score) -> AsyncGenerator[list[AnyPiece], None]:
    for first in range(0, len(task.documents), ROWS_PER_PIECE):
        some = task.documents[first : first + ROWS_PER_PIECE]
        yield [
            Scored(
                request_id=task.request_id,
                first_index=first,
                scores=[score_of(document) for document in some],
                is_last=first + len(some) == len(task.documents),
                used=Used(num_prompt_tokens=NUM_TOKENS * len(some)),
            )
        ]


async def answer_task(
    task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None
) -> AsyncGenerator[list[AnyPiece], None]:
    """Each kind of task by its script."""
    script = SCRIPTS[type(task)](task) if follow_ups is None else LISTENERS[type(task)](task, follow_ups)
    async for pieces in script:
        yield pieces


SCRIPTS: dict[type, Callable[..., AsyncGenerator[list[AnyPiece], None]]] = {Embed: embed, Score: score, Draw: draw}
LISTENERS: dict[type, Callable[..., AsyncGenerator[list[AnyPiece], None]]] = {Transcribe: listen, Align: listen}
"""Of tasks whose sound follows them."""
