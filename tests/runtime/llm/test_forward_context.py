import numpy as np
import pytest

from runtime.llm.forward_context import current_asked_rows, current_attention, use_attention
from tests.fakes.echo_attention import EchoAttention


def test_a_layer_finds_the_attention_of_its_step() -> None:
    attention = EchoAttention()
    with use_attention(attention):
        assert current_attention() is attention
        assert current_asked_rows() is None, "all of them"


def test_a_layer_finds_which_rows_of_its_step_are_asked_for() -> None:
    asked = np.array([3])
    with use_attention(EchoAttention(), asked):
        assert current_asked_rows() is asked


def test_after_a_step_that_raised_there_is_none() -> None:
    with pytest.raises(RuntimeError), use_attention(EchoAttention(), np.array([3])):
        raise RuntimeError
    assert current_asked_rows() is None
    with pytest.raises(AssertionError, match="outside"):
        current_attention()
