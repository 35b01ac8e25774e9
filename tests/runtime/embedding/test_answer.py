import numpy as np
import pytest

from runtime.embedding.answer import PIECE_BYTES, embedded_pieces, scored_pieces, shape_vectors
from runtime.tasks.embedding import Embed
from tests.fakes.embedding_engine import scores, vectors

VECTORS = np.array([[3.0, 4.0, 12.0], [0.0, 0.0, 0.0]], dtype=np.float32)


def test_fewer_dimensions_keep_the_length_that_the_vector_had() -> None:
    cut = shape_vectors(VECTORS, num_dimensions=2, is_normalized=False)
    assert cut[0] == pytest.approx([13 * 3 / 5, 13 * 4 / 5])
    assert cut[1].tolist() == [0.0, 0.0], "nothing has no direction"
    assert np.linalg.norm(shape_vectors(VECTORS, num_dimensions=2, is_normalized=True)[0]) == pytest.approx(1.0)
    assert shape_vectors(VECTORS, num_dimensions=None, is_normalized=False) is VECTORS


def test_what_the_request_says_of_length_beats_what_the_model_has() -> None:
    for stated, of_model, length in [(None, True, 1), (None, False, 13), (False, True, 13), (True, False, 1)]:
        embed = Embed(request_id="r", inputs=["a", "b"], is_normalized=stated)
        made = vectors([*embedded_pieces(embed, VECTORS, of_model, [1, 2])])
        assert np.linalg.norm(made[0]) == pytest.approx(length)


def test_logits_stay_as_they_are_or_become_probabilities() -> None:
    plain = Embed(request_id="r", inputs=["a", "b"], logit_token_ids=[1, 2, 3])
    assert np.array_equal(vectors([*embedded_pieces(plain, VECTORS, True, [1, 1])]), VECTORS)
    softened = Embed(request_id="r", inputs=["a", "b"], logit_token_ids=[1, 2, 3], is_normalized=True)
    probabilities = vectors([*embedded_pieces(softened, VECTORS * 1000, False, [1, 1])])
    assert probabilities.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert probabilities[0].argmax() == 2


def test_a_large_answer_comes_in_pieces_that_count_every_token_once() -> None:
    num_rows = 3 * PIECE_BYTES // (4 * 3) + 5
    embed = Embed(request_id="r", inputs=["a"] * num_rows)
    matrix = np.arange(num_rows * 3, dtype=np.float32).reshape(num_rows, 3)
    pieces = embedded_pieces(embed, matrix, False, [2] * num_rows)
    assert len(pieces) == 4
    assert all(len(piece.values) <= PIECE_BYTES for piece in pieces)
    assert sum(piece.used.num_prompt_tokens for piece in pieces) == 2 * num_rows
    assert np.array_equal(vectors([*pieces]), matrix)


def test_scores_come_with_what_they_cost() -> None:
    (piece,) = scored_pieces("r", [0.5, 0.25], [3, 4])
    assert scores([piece]) == [0.5, 0.25]
    assert piece.used.num_prompt_tokens == 7
