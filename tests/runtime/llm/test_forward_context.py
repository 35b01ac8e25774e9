import pytest

from runtime.llm.forward_context import current_attention, use_attention
from tests.fakes.echo_attention import EchoAttention


def test_a_layer_finds_the_attention_of_its_step() -> None:
    attention = EchoAttention()
    with use_attention(attention):
        assert current_attention() is attention


def test_after_a_step_that_raised_there_is_none() -> None:
    with pytest.raises(RuntimeError), use_attention(EchoAttention()):
        raise RuntimeError
    with pytest.raises(AssertionError, match="outside"):
        current_attention()
