"""The lean import is tried in a process of its own: in this one transformers is imported already."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.embedding_folder import inspect_embedding
from runtime.embedding.encoders import Encoder, StepTokens, build_encoder, fill_encoder
from runtime.embedding.layout import Layout
from runtime.llm.checkpoint import Checkpoint
from tests.fakes.tiny_embedder import CONTEXT_LENGTH, EMBEDDERS, Embedder, build_tiny_embedder

CPU = torch.device("cpu")
TEXTS = [[2, *range(10, 40), 3], [2, *range(12, 20), 3], [2, 9, 3], [5]]

SCRIPT = """
import sys
from pathlib import Path
from tests.fakes.embedding_engine import DrivenEngine

for directory in sys.argv[1:]:
    engine = DrivenEngine(Path(directory))
    scores = engine.frontend._pairs is not None
    print(engine.score("a kettle", ["sings"])[0] if scores else engine.embed(["a kettle"])[0, 0])
    engine.close()
heavy = {"transformers", "transformers.modeling_utils", "torch._dynamo", "sympy", "sentence_transformers"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def _load(directory: Path) -> Encoder:
    info = inspect_embedding(directory)
    encoder = build_encoder(directory, info, info.max_context_length)
    fill_encoder(encoder, Checkpoint(directory, ["model.safetensors"]), info, dtype=torch.float32, device=CPU)
    return encoder


def _encode(encoder: Encoder, texts: list[list[int]]) -> torch.Tensor:
    token_ids = torch.tensor([token_id for text in texts for token_id in text])
    layout = Layout([len(text) for text in texts], CPU)
    with torch.inference_mode():
        return encoder.encode(StepTokens(token_ids, layout, torch.zeros_like(token_ids)))


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_a_text_is_the_same_in_company_as_alone(tmp_path: Path, embedder: Embedder) -> None:
    encoder = _load(build_tiny_embedder(tmp_path, embedder))
    alone = torch.cat([_encode(encoder, [text]) for text in TEXTS])
    torch.testing.assert_close(_encode(encoder, TEXTS), alone, rtol=1e-5, atol=1e-5)


def test_tables_of_positions_tell_how_long_a_text_may_be(tmp_path: Path) -> None:
    expected: dict[Embedder, int | None] = {"bert": CONTEXT_LENGTH, "e5": CONTEXT_LENGTH, "nomic": None}
    for embedder, num_positions in expected.items():
        directory = build_tiny_embedder(tmp_path / embedder, embedder)
        assert _load(directory).num_positions == num_positions


def test_a_scoring_head_of_modernbert_takes_the_mean_where_its_config_says_so(tmp_path: Path) -> None:
    import transformers

    directory = build_tiny_embedder(tmp_path, "modernbert")
    config = transformers.ModernBertConfig.from_pretrained(directory, num_labels=1, classifier_pooling="mean")
    model = transformers.ModernBertForSequenceClassification(config).eval()
    model.save_pretrained(directory)
    for name in ("modules.json", "config_sentence_transformers.json"):
        (directory / name).unlink()
    token_ids = torch.tensor([TEXTS[1]])
    with torch.inference_mode():
        expected = model(token_ids).logits[0]
    encoder, layout = _load(directory), Layout([len(TEXTS[1])], CPU)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.score(_encode(encoder, [TEXTS[1]]), layout), expected)


def test_lean_imports_make_the_same_vectors(tmp_path: Path) -> None:
    from tests.fakes.embedding_engine import DrivenEngine

    # Not MPNet: it attends in a way of its own, and needs everything.
    names: tuple[Embedder, ...] = ("nomic", "modernbert", "qwen3_embedding", "roberta_cross_encoder")
    directories = [build_tiny_embedder(tmp_path / name, name) for name in names]
    command = [sys.executable, "-c", SCRIPT, *map(str, directories)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    expected = []
    for directory in directories:
        engine = DrivenEngine(directory)
        can_rank = directory.name == "roberta_cross_encoder"
        expected.append(engine.score("a kettle", ["sings"])[0] if can_rank else engine.embed(["a kettle"])[0, 0])
        engine.close()
    assert [float(line) for line in process.stdout.split()] == pytest.approx(expected, abs=1e-5)
