from collections.abc import Sequence

import pytest
import torch

from runtime.llm.adapters.adapter import LoraAdapter
from runtime.llm.forward import Forward, TokenRow
from runtime.llm.request import Request
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import VOCAB_SIZE, build_tiny_model

RANKS = [1, 2, 3, 8, 16]


class World:
    def __init__(self, tiny: TinyModel, adapters: list[LoraAdapter]) -> None:
        self.tiny = tiny
        self.adapters = adapters

    def logits(self, rows: Sequence[TokenRow], *, has_adaptation: bool = True) -> torch.Tensor:
        """Of every token."""
        adaptation = self.tiny.adaptation if has_adaptation else None
        forward = Forward(self.tiny.model, self.tiny.attention(), adaptation=adaptation)
        return forward.compute(rows).logits(list(range(sum(len(row.token_ids) for row in rows))))

    def num_hooks(self) -> int:
        return sum(len(module._forward_hooks) for module in self.tiny.model.modules())


@pytest.fixture(scope="module", params=["llama", "gemma"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("adaptation")
    base = build_tiny_model(folder / "base", request.param)
    tiny = TinyModel(base)
    directories = [build_tiny_addon(folder / str(rank), base, seed=rank, rank=rank) for rank in RANKS]
    return World(tiny, [tiny.adapter(directory) for directory in directories])


def batch(adapters: Sequence[LoraAdapter | None]) -> list[TokenRow]:
    """A decode of each, a prefill of each, and a decode of each again, all of different tokens."""
    rows: list[TokenRow] = []
    for index, num_tokens in enumerate([1, 6, 1]):
        for number, adapter in enumerate(adapters):
            token_ids = [(7 * index + 11 * number + 3 * i) % VOCAB_SIZE for i in range(num_tokens)]
            rows.append(TokenRow(token_ids, 0, [1 + len(rows)], adapter=adapter))
    return rows


def test_each_row_has_its_own_adapter(world: World) -> None:
    rows = batch([None, *world.adapters])
    together = world.logits(rows)
    alone = torch.cat([world.logits([row]) for row in rows])
    assert torch.allclose(together, alone, atol=1e-4)


def test_rows_without_one_are_the_same_to_the_bit(world: World) -> None:
    rows = batch([None, *world.adapters, None])
    plain = [row._replace(adapter=None) for row in rows]
    is_plain = torch.tensor([row.adapter is None for row in rows for _ in row.token_ids])
    mixed = world.logits(rows)
    expected = world.logits(plain, has_adaptation=False)
    assert torch.equal(mixed[is_plain], expected[is_plain])
    differs = (mixed - expected).abs().amax(dim=1) > 1e-3
    assert torch.equal(differs, ~is_plain)


def test_steps_without_adapters_have_no_hooks_and_give_the_same_bits(world: World) -> None:
    plain = batch([None, None])
    world.logits(batch(world.adapters))
    assert world.num_hooks() > 0
    assert torch.equal(world.logits(plain), world.logits(plain, has_adaptation=False))
    assert world.num_hooks() == 0


def test_a_step_that_fails_leaves_nothing_behind(world: World) -> None:
    plain = batch([None])
    with pytest.raises(ZeroDivisionError), world.tiny.adaptation.applied(batch(world.adapters)):
        raise ZeroDivisionError
    assert torch.equal(world.logits(plain, has_adaptation=False), world.logits(plain))


def requests_of(world: World) -> list[Request]:
    prompt = [5, 9, 2, 40, 7, 7, 120, 31, 4, 250, 11]
    return [
        make_request(prompt, request_id=str(number), adapter=adapter)
        for number, adapter in enumerate([None, *world.adapters])
    ]


def test_five_adapters_and_the_base_in_one_batch_give_the_tokens_of_each_alone(world: World) -> None:
    alone = [token_ids(run(world.tiny.engine(), [request]))[0] for request in requests_of(world)]
    assert token_ids(run(world.tiny.engine(max_batch_tokens=16), requests_of(world), steps_between=1)) == alone
    assert len({tuple(tokens) for tokens in alone}) == len(alone)


def test_a_draft_model_that_knows_no_adapters_changes_nothing(world: World) -> None:
    expected = token_ids(run(world.tiny.engine(), requests_of(world)))
    drafting = world.tiny.engine(draft_model=world.tiny.draft_model())
    assert token_ids(run(drafting, requests_of(world))) == expected
