"""What a client is told of a token: its logprob and those of the best ones, of the model's own distribution.

Reads raw logits only: no mask, penalty or temperature shows in them.
"""

from typing import NamedTuple

import torch

from runtime.llm.request import SampledToken


class AskedToken(NamedTuple):
    row: int
    """Of the logits."""
    token_id: int
    num_logprobs: int
    """Alternatives."""


def with_logprobs(logits: torch.Tensor, asked: list[AskedToken]) -> list[SampledToken]:
    """Each of these tokens, with what its row of `logits` [rows, vocabulary] says of it."""
    rows = [token.row for token in asked]
    logprobs = (logits if rows == list(range(len(logits))) else logits[rows]).float().log_softmax(dim=-1)
    token_ids = torch.tensor([[token.token_id] for token in asked], device=logits.device)
    chosen = logprobs.gather(1, token_ids).squeeze(1).tolist()
    best = logprobs.topk(max(token.num_logprobs for token in asked), dim=-1)
    top_values, top_ids = best.values.tolist(), best.indices.tolist()
    return [
        SampledToken(
            token.token_id,
            chosen[index],
            list(zip(top_ids[index][: token.num_logprobs], top_values[index][: token.num_logprobs], strict=True)),
        )
        for index, token in enumerate(asked)
    ]
