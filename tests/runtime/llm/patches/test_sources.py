"""A source's key says what a class computes, and nothing else."""

import functools
from collections.abc import Callable

from torch import Tensor, nn

from runtime.llm.patches.sources import source_key


def documented(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(function)
    def wrapper(self: nn.Module, inputs: Tensor) -> Tensor:
        return function(self, inputs)

    return wrapper


class Doubled(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 2


class DoubledAndExplained(nn.Module):
    """Doubles."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 2

    @documented
    def forward(self, inputs: Tensor) -> Tensor:
        """Double."""
        # by two
        return (
            inputs * 2
        )  # fmt: skip


class Tripled(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 3


def test_words_layout_and_decorators_do_not_count_and_what_is_computed_does() -> None:
    assert source_key(Doubled) == source_key(DoubledAndExplained)
    assert source_key(Doubled) != source_key(Tripled)
    assert len(source_key(Doubled)) == 16


def test_a_key_of_several_knows_their_order() -> None:
    assert source_key(Doubled, Tripled) != source_key(Tripled, Doubled)


def test_without_a_source_there_is_no_key() -> None:
    namespace: dict[str, Callable[[], None]] = {}
    exec("def made(): pass", namespace)
    assert source_key(namespace["made"]) == ""
