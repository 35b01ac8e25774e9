import pytest
import torch

from runtime.llm.forward_context import current_attention, use_attention


class Attention:
    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        sliding_window: int | None,
        softcap: float | None = None,
    ) -> torch.Tensor:
        return query


def test_a_layer_finds_the_attention_of_its_step() -> None:
    attention = Attention()
    with use_attention(attention):
        assert current_attention() is attention


def test_after_a_step_that_raised_there_is_none() -> None:
    with pytest.raises(RuntimeError), use_attention(Attention()):
        raise RuntimeError
    with pytest.raises(AssertionError, match="outside"):
        current_attention()
