from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import embedding

from runtime.llm.checkpoint import Checkpoint
from runtime.llm.file_embedding import FileEmbedding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_are_those_of_the_table(tmp_path: Path, dtype: torch.dtype) -> None:
    table = torch.randn(11, 6).to(dtype)
    save_file({"before": torch.ones(3), "table": table}, tmp_path / "w.safetensors")
    from_file = FileEmbedding(Checkpoint(tmp_path, ["w.safetensors"]).locate("table"))
    token_ids = torch.tensor([[0, 10, 3, 3, 7]])
    assert torch.equal(from_file(token_ids), embedding(token_ids, table))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_scaled_as_gemma_scales_them(tmp_path: Path, dtype: torch.dtype) -> None:
    table, scale = torch.randn(11, 6).to(dtype), 3072**0.5
    save_file({"table": table}, tmp_path / "w.safetensors")
    from_file = FileEmbedding(Checkpoint(tmp_path, ["w.safetensors"]).locate("table"), scale)
    token_ids = torch.tensor([[0, 10, 3]])
    assert torch.equal(from_file(token_ids), embedding(token_ids, table) * torch.tensor(scale).to(dtype))


def test_a_token_outside_the_table_reads_nothing(tmp_path: Path) -> None:
    save_file({"table": torch.ones(4, 2), "z": torch.ones(9)}, tmp_path / "w.safetensors")
    from_file = FileEmbedding(Checkpoint(tmp_path, ["w.safetensors"]).locate("table"))
    for token_id in (-1, 4):
        with pytest.raises(AssertionError):
            from_file(torch.tensor([[token_id]]))
