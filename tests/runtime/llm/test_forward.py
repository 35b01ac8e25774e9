from collections.abc import Sequence

import pytest
import torch

from runtime.llm.forward import Forward, TokenRow
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import build_tiny_model

FIRST, SECOND = list(range(3, 23)), list(range(40, 47))
FIRST_BLOCKS, SECOND_BLOCKS = [1, 2, 3], [6, 4]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return TinyModel(build_tiny_model(tmp_path_factory.mktemp("llama"), "llama"))


def last_logits(tiny: TinyModel, steps: Sequence[Sequence[TokenRow]]) -> torch.Tensor:
    """Of every row of the last step, behind its last token."""
    forward = Forward(tiny.model, tiny.attention())
    for rows in steps:
        computed = forward.compute(rows)
    stops = torch.tensor([len(row.token_ids) for row in steps[-1]]).cumsum(0)
    return computed.logits((stops - 1).tolist())


def test_rows_give_the_same_together_alone_and_in_pieces(tiny: TinyModel) -> None:
    first, second = TokenRow(FIRST, 0, FIRST_BLOCKS), TokenRow(SECOND, 0, SECOND_BLOCKS)
    together = last_logits(tiny, [[first, second]])
    alone = torch.cat([last_logits(tiny, [[row]]) for row in (first, second)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
    steps = [
        [TokenRow(FIRST[:9], 0, FIRST_BLOCKS), TokenRow(SECOND[:6], 0, SECOND_BLOCKS)],
        [TokenRow(FIRST[9:], 9, FIRST_BLOCKS), TokenRow(SECOND[6:], 6, SECOND_BLOCKS)],
    ]
    torch.testing.assert_close(last_logits(tiny, steps), alone, rtol=0, atol=1e-4)


def test_logits_are_those_of_the_positions_asked_for(tiny: TinyModel) -> None:
    computed = Forward(tiny.model, tiny.attention()).compute([TokenRow(FIRST, 0, FIRST_BLOCKS)])
    everywhere = computed.logits(list(range(len(FIRST))))
    torch.testing.assert_close(computed.logits([4, 0]), everywhere[[4, 0]], rtol=0, atol=1e-5)


def test_logits_that_were_announced_are_those_asked_for_later(tiny: TinyModel) -> None:
    rows = [TokenRow(FIRST, 0, FIRST_BLOCKS)]
    expected = Forward(tiny.model, tiny.attention()).compute(rows).logits([4, 19])
    computed = Forward(tiny.model, tiny.attention()).compute(rows, [4, 19])
    torch.testing.assert_close(computed.logits([4, 19]), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(computed.logits([19]), expected[1:], rtol=0, atol=1e-5)


class Told:
    """A follower that only writes down."""

    def __init__(self) -> None:
        self.orders: list[object] = []

    def compute(self, rows: Sequence[TokenRow], logit_rows: Sequence[int]) -> None:
        self.orders.append(([row.token_ids for row in rows], logit_rows))

    def logits(self, positions: list[int]) -> None:
        self.orders.append(positions)


def test_followers_are_told_of_every_computation(tiny: TinyModel) -> None:
    told = Told()
    computed = Forward(tiny.model, tiny.attention(), followers=told).compute([TokenRow(FIRST, 0, FIRST_BLOCKS)], [19])
    computed.logits([4, 0])
    computed.logits([19])  # computed already
    assert told.orders == [([FIRST], [19]), [4, 0]]


def test_tokens_computed_wrongly_before_are_overwritten(tiny: TinyModel) -> None:
    """What happens to a draft that was refused."""
    right = TokenRow(FIRST, 0, FIRST_BLOCKS)
    drafted = [[TokenRow(FIRST[:10] + [9] * 8, 0, FIRST_BLOCKS)], [TokenRow(FIRST[10:], 10, FIRST_BLOCKS)]]
    torch.testing.assert_close(last_logits(tiny, drafted), last_logits(tiny, [[right]]), rtol=0, atol=1e-4)


def test_a_token_that_only_the_device_knows_is_put_where_the_host_could_not(tiny: TinyModel) -> None:
    sampled = torch.tensor([50, FIRST[-1], SECOND[-1], 51])
    begun = [TokenRow(FIRST[:-1], 0, FIRST_BLOCKS), TokenRow(SECOND[:-1], 0, SECOND_BLOCKS)]
    prompt = TokenRow([7, 8, 9], 0, [8])
    known = [TokenRow(FIRST[-1:], 19, FIRST_BLOCKS), prompt, TokenRow(SECOND[-1:], 6, SECOND_BLOCKS)]
    awaited = [TokenRow([0], 19, FIRST_BLOCKS, follows=1), prompt, TokenRow([0], 6, SECOND_BLOCKS, follows=2)]
    forward = Forward(tiny.model, tiny.attention())
    forward.compute(begun)
    found = forward.compute(awaited, sampled=sampled).logits([0, 3, 4])
    assert torch.equal(found, last_logits(tiny, [begun, known]))
