"""A real embedding engine over a real model folder, driven without threads or sockets."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.embedding_folder import inspect_embedding
from runtime.embedding.load import load_embedding
from runtime.engine import Postponed
from runtime.protocol import AnyPiece, Load
from runtime.settings import EmbeddingSettings
from runtime.tasks.embedding import Embed, Embedded, Score, Scored

MIB = 1024 * 1024


def embedding_load(directory: Path, **settings: Any) -> Load:
    info = inspect_embedding(directory)
    defaults: dict[str, Any] = {
        "device": "cpu",
        "dtype": "float32",
        "memory_budget_bytes": 2048 * MIB,
        "max_context_length": info.max_context_length,
        "max_batch_tokens": 2048,
    }
    return Load(
        model_dir=str(directory), file_sha256=info.file_sha256, settings=EmbeddingSettings(**defaults | settings)
    )


class DrivenEngine:
    """One that answers task after task, or several at once."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.engine, self.frontend, self.loaded = load_embedding(
            embedding_load(directory, **settings), lambda stage, done: None
        )
        self._num_tasks = 0

    def close(self) -> None:
        self.frontend.close()

    def embed(self, inputs: list[str] | list[list[int]], **options: Any) -> NDArray[np.float32]:
        """[inputs, dimensions]"""
        embed = Embed(request_id=self._new_id(), inputs=[*inputs], **options)
        return vectors(self.answer(embed)[embed.request_id])

    def score(self, query: str, documents: list[str], **options: Any) -> list[float]:
        score = Score(request_id=self._new_id(), query=query, documents=documents, **options)
        return scores(self.answer(score)[score.request_id])

    def answer(self, *tasks: Embed | Score) -> dict[str, list[AnyPiece]]:
        """The pieces of each, all of them waiting at once."""
        for task in tasks:
            self.engine.add(self.prepare(task))
        pieces: dict[str, list[AnyPiece]] = {task.request_id: [] for task in tasks}
        while self.engine.has_work():
            for piece in self.frontend.render(self.engine.step()).pieces:
                pieces[piece.request_id].append(piece)
        return pieces

    def prepare(self, task: Embed | Score) -> Any:
        try:
            return self.frontend.prepare(task)
        except Postponed as postponed:
            postponed.ready.exception(timeout=60)
            return self.frontend.prepare(task)

    def _new_id(self) -> str:
        self._num_tasks += 1
        return f"r{self._num_tasks}"


def vectors(pieces: list[AnyPiece]) -> NDArray[np.float32]:
    """Of every input, in order; the pieces are checked to hold each once."""
    rows: list[NDArray[np.float32]] = []
    for piece in pieces:
        assert isinstance(piece, Embedded)
        assert piece.first_index == sum(map(len, rows))
        rows.append(np.frombuffer(piece.values, dtype="<f4").reshape(-1, piece.num_columns))
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    return np.concatenate(rows)


def scores(pieces: list[AnyPiece]) -> list[float]:
    found: list[float] = []
    for piece in pieces:
        assert isinstance(piece, Scored)
        assert piece.first_index == len(found)
        found += piece.scores
    assert pieces[-1].is_last
    return found
