"""Attention that finds nothing but the queries."""

import torch

from runtime.llm.forward_context import Scoring


class EchoAttention:
    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        return query
