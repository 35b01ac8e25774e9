"""What becomes of a request's outputs once all of them are there: vectors as they were asked for, or scores, in pieces.

Pure functions over numpy arrays.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.message import Used
from runtime.tasks.embedding import Embed, Embedded, Scored

Matrix = NDArray[np.float32]

PIECE_BYTES = 4 * 1024 * 1024
"""Far below a frame, so that nobody waits long behind one."""


def embedded_pieces(embed: Embed, outputs: Matrix, is_normalized: bool, num_tokens: Sequence[int]) -> list[Embedded]:
    """`is_normalized`: as the model has it; `num_tokens` of each input."""
    wanted = is_normalized if embed.is_normalized is None else embed.is_normalized
    if embed.logit_token_ids:
        values = softmax(outputs) if embed.is_normalized else outputs
    else:
        values = shape_vectors(outputs, num_dimensions=embed.num_dimensions, is_normalized=wanted)
    num_columns = values.shape[1]
    parts = _parts(len(values), PIECE_BYTES // (4 * num_columns))
    return [
        Embedded(
            request_id=embed.request_id,
            first_index=start,
            num_columns=num_columns,
            values=values[start:stop].astype("<f4").tobytes(),
            used=Used(num_prompt_tokens=sum(num_tokens[start:stop])),
            is_last=stop == len(values),
        )
        for start, stop in parts
    ]


def scored_pieces(request_id: str, scores: list[float], num_tokens: Sequence[int]) -> list[Scored]:
    parts = _parts(len(scores), PIECE_BYTES // 8)
    return [
        Scored(
            request_id=request_id,
            first_index=start,
            scores=scores[start:stop],
            used=Used(num_prompt_tokens=sum(num_tokens[start:stop])),
            is_last=stop == len(scores),
        )
        for start, stop in parts
    ]


def shape_vectors(vectors: Matrix, *, num_dimensions: int | None, is_normalized: bool) -> Matrix:
    """The first so many of each, of the length that the whole had, or of length 1."""
    cut = vectors if num_dimensions is None else vectors[:, :num_dimensions]
    if not is_normalized and num_dimensions is None:
        return cut
    lengths = 1.0 if is_normalized else np.linalg.norm(vectors, axis=1, keepdims=True)
    shaped: Matrix = cut * (lengths / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12))
    return shaped


def softmax(logits: Matrix) -> Matrix:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Matrix = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _parts(num_rows: int, num_rows_max: int) -> Iterator[tuple[int, int]]:
    size = max(1, num_rows_max)
    for start in range(0, num_rows, size):
        yield start, min(start + size, num_rows)
