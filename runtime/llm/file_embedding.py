"""Token embeddings read row by row from the checkpoint's file: on a CPU the table never has to be in memory.

Through a mapping it would end up there whole, because recent kernels map two megabytes around each row that is
touched. A row costs about two microseconds to read from the page cache; a step reads one per token.
"""

import os

import torch
from torch import nn

from runtime.llm.checkpoint import FileTensor


class FileEmbedding(nn.Module):
    """Takes the place of an nn.Embedding whose weight is stored in the dtype that is served.

    Rows are multiplied by `scale`, rounded to that dtype.
    """

    def __init__(self, stored: FileTensor, scale: float | None = None) -> None:
        super().__init__()
        self._file = stored.file
        self._offset = stored.offset
        self._num_rows, self._row_size = stored.shape
        self._dtype = stored.dtype
        self._scale = None if scale is None else torch.tensor(scale).to(stored.dtype)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        rows = torch.empty(*token_ids.shape, self._row_size, dtype=self._dtype)
        buffers = rows.view(torch.uint8).flatten(0, -2).numpy()
        row_bytes = buffers.shape[1]
        for buffer, token_id in zip(buffers, token_ids.flatten().tolist(), strict=True):
            assert 0 <= token_id < self._num_rows, token_id
            num_bytes = os.preadv(self._file.descriptor, [buffer], self._offset + token_id * row_bytes)
            assert num_bytes == row_bytes, "the checkpoint has become shorter"
        return rows if self._scale is None else rows.mul_(self._scale)
