"""What a client is told of a token: its logprob and those of the best ones, of the model's own distribution.

Reads raw logits only: no mask, penalty or temperature shows in them. Computed on the device and read there later.
"""

from typing import NamedTuple

import torch

from runtime.llm.request import SampledToken


class TokenLogprobs(NamedTuple):
    """Of one token for each of some rows; three tensors, on the device or here."""

    chosen: torch.Tensor
    top_values: torch.Tensor
    top_ids: torch.Tensor

    @classmethod
    def of(cls, logits: torch.Tensor, token_ids: torch.Tensor, num_top: int) -> "TokenLogprobs":
        """`logits` [rows, vocabulary], a token for each; beside it so many of the most likely ones."""
        logprobs = logits.float().log_softmax(dim=-1)
        best = logprobs.topk(num_top, dim=-1)
        return cls(logprobs.gather(1, token_ids.unsqueeze(1)).squeeze(1), best.values, best.indices)

    def tell(self, token_ids: list[int], nums_top: list[int]) -> list[SampledToken]:
        """The same tokens with what is known of each, and as many alternatives as each wants."""
        chosen, values, ids = self.chosen.tolist(), self.top_values.tolist(), self.top_ids.tolist()
        return [
            SampledToken(token_id, chosen[i], list(zip(ids[i][:num_top], values[i][:num_top], strict=True)))
            for i, (token_id, num_top) in enumerate(zip(token_ids, nums_top, strict=True))
        ]
