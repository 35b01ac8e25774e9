"""A request's output alone equals its output inside a hostile batch: everything at once, in pools that hardly hold it.

Random. Two sums in another order may differ in the last bit, and a token that was decided by it may differ with them:
such a tie is recognised by asking the sampler again with logits that are changed by next to nothing.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from runtime.adapter_shelf import AdapterShelf
from runtime.llm.attention_gather import Span
from runtime.llm.engine import LlmEngine
from runtime.llm.frontend import LlmFrontend
from runtime.llm.request import Generation, Request
from runtime.llm.sampler import SampledRow, sample
from runtime.protocol import Delta, LoadAdapter, Submit, TokenLogprob
from runtime.settings import Speculation
from tests.fakes.hostile_requests import ADDONS, ScatteredConstraint, draw_submit
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel
from tests.fakes.tiny_llm import VOCAB_SIZE, build_tiny_model

NUM_CASES = 400
NUM_VISITS = 10
"""Requests in one batch."""
NUM_BLOCKS_MAX = 200
NUM_STEPS_MAX = 3000
NUM_TIES_MAX = 6
NOISE = 1e-4
NUM_NOISES = 64


class Visit(NamedTuple):
    submit: Submit
    arrives_at: int
    """Step."""
    leaves_at: int | None
    """Step at which its client hangs up."""
    constraint_breaks_at: int | None
    """None: it has none; a number no output reaches: one that works."""


class Outcome(NamedTuple):
    token_ids: list[int]
    text: str
    finish_reason: str | None
    logprobs: list[TokenLogprob]
    num_cached_tokens: int


Outcomes = dict[int, Outcome] | None
"""By choice; None: the request failed."""


class World:
    """One model and one frontend; an engine for each batch."""

    def __init__(self, tiny: TinyModel, frontend: LlmFrontend) -> None:
        self.tiny = tiny
        self._frontend = frontend

    def engine(self) -> LlmEngine:
        """With room for everything, and nothing guessed."""
        return self.tiny.engine(num_blocks=NUM_BLOCKS_MAX)

    def draw_engine(self, rng: random.Random) -> LlmEngine:
        num_blocks = rng.choice([8, 12, 20, NUM_BLOCKS_MAX])
        has_draft_model = rng.random() < 0.2
        return self.tiny.engine(
            num_blocks=num_blocks,
            max_batch_tokens=rng.choice([3, 7, 16, 64]),
            enable_prefix_cache=rng.random() < 0.8,
            look_ahead=rng.random() < 0.5,
            speculation=Speculation(num_draft_tokens=rng.randrange(5), ngram_length=rng.choice([0, 0, 2])),
            draft_model=self.tiny.draft_model(num_blocks) if has_draft_model else None,
        )

    def generation(self, visit: Visit) -> Generation:
        generation = self._frontend.prepare(visit.submit)
        if visit.constraint_breaks_at is not None:
            for choice in generation.choices:
                choice.constraint = ScatteredConstraint(choice.index, visit.constraint_breaks_at)
        return generation

    def play(self, engine: LlmEngine, visits: Sequence[Visit]) -> dict[str, Outcomes]:
        """Both halves as a worker drives them, step by step, to the end of the last request."""
        deltas: dict[str, list[Delta]] = defaultdict(list)
        failed: set[str] = set()
        for step in range(NUM_STEPS_MAX):
            for visit in visits:
                if visit.arrives_at == step:
                    engine.add(self.generation(visit))
                if visit.leaves_at == step:
                    self._frontend.forget(visit.submit.request_id)
                    engine.abort(visit.submit.request_id)
            if engine.has_work():
                rendered = self._frontend.render(engine.step())
                for delta in rendered.deltas:
                    deltas[delta.request_id].append(delta)
                failed.update(failure.request_id for failure in rendered.failures)
                for request_id, index in rendered.finished:
                    engine.abort(request_id, index)
                engine.check_integrity()
            elif all(visit.arrives_at < step for visit in visits):
                stats = engine.stats()
                assert stats.num_free_blocks == stats.num_blocks
                return {visit.submit.request_id: _outcomes(visit, deltas, failed) for visit in visits}
        raise AssertionError("the engine makes no progress")

    def is_tie(self, visit: Visit, index: int, position: int, token_id: int) -> bool:
        """Whether noise in the logits could have made this the choice's token after `position` tokens of output."""
        request = self._advanced(visit, index, position)
        token_ids = request.token_ids(0, request.num_tokens)
        num_blocks = -(-len(token_ids) // BLOCK_SIZE)
        span = Span(0, len(token_ids), 0, list(range(1, num_blocks + 1)))
        logits = self.tiny.logits(token_ids, [span], request.adapter)[-1:]
        mask = np.zeros(VOCAB_SIZE // 32, dtype=np.int32)
        has_mask = request.constraint is not None and request.constraint.fill_mask(mask)
        row = SampledRow.of(request, mask=mask if has_mask else None)
        noise = torch.randn(NUM_NOISES, logits.shape[-1], generator=torch.Generator().manual_seed(0)) * NOISE
        return token_id in {token.token_id for token in sample(logits + noise, [row] * NUM_NOISES).tokens()}

    def _advanced(self, visit: Visit, index: int, position: int) -> Request:
        """The choice, alone, after so many tokens; without a draft, which might take it further."""
        generation = self.generation(visit)
        self._frontend.forget(visit.submit.request_id)
        request = generation.choices[index]
        request.prediction = []
        engine = self.engine()
        engine.add(Generation(generation.request_id, [request]))
        while len(request.output_token_ids) < position:
            engine.step()
        return request


def _outcomes(visit: Visit, deltas: dict[str, list[Delta]], failed: set[str]) -> Outcomes:
    request_id = visit.submit.request_id
    if request_id in failed:
        return None
    outcomes = {}
    for index in range(visit.submit.num_choices):
        own = [delta for delta in deltas[request_id] if delta.index == index]
        outcomes[index] = Outcome(
            token_ids=[token_id for delta in own for token_id in [*delta.echo_token_ids, *delta.token_ids]],
            text="".join(delta.text for delta in own),
            finish_reason=own[-1].finish_reason if own else None,
            logprobs=[entry for delta in own for entry in delta.logprobs or []],
            num_cached_tokens=own[-1].usage.num_cached_tokens if own and own[-1].usage else 0,
        )
    return outcomes


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = build_tiny_model(tmp_path_factory.mktemp("tiny"), "llama", num_hidden_layers=1)
    tiny = TinyModel(directory)
    shelf = AdapterShelf(lambda load: tiny.adapter(Path(load.directory)), len(ADDONS))
    for seed, name in enumerate(ADDONS):
        addon = build_tiny_addon(tmp_path_factory.mktemp("addon"), directory, seed=seed, rank=3 + seed)
        shelf.load(LoadAdapter(adapter=name, directory=str(addon), file_sha256={})).result()
    frontend = LlmFrontend(directory, tiny.info, 512, (NUM_BLOCKS_MAX - 1) * BLOCK_SIZE, shelf)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # layers as narrow as these gain nothing from two, and lose much when cores are busy
    yield World(tiny, frontend)
    torch.set_num_threads(num_threads)
    frontend.close()


def draw_visit(rng: random.Random, request_id: str) -> Visit:
    return Visit(
        submit=draw_submit(rng, request_id),
        arrives_at=rng.randrange(8),
        leaves_at=rng.randrange(20) if rng.random() < 0.2 else None,
        constraint_breaks_at=rng.choice([1, 3, 1000, 1000]) if rng.random() < 0.2 else None,
    )


def alone(visit: Visit) -> Visit:
    return visit._replace(arrives_at=0, leaves_at=None)


class Judge:
    """Compares outcomes; remembers how many, and how many were ties."""

    def __init__(self, world: World) -> None:
        self.num_cases = 0
        self.num_ties = 0
        self._world = world

    def compare(self, visit: Visit, expected: Outcomes, found: Outcomes) -> None:
        if expected is None or found is None:
            assert expected == found or visit.leaves_at is not None, f"{visit}: {expected}, {found}"
            return
        for index, outcome in found.items():
            if visit.leaves_at is None:
                self.num_cases += 1
            self._compare_choice(visit, index, expected[index], outcome)

    def _compare_choice(self, visit: Visit, index: int, expected: Outcome, found: Outcome) -> None:
        told = f"\n{visit}, choice {index}:\n{expected}\n{found}"
        parting = _parting(expected.token_ids, found.token_ids)
        if parting is not None:
            num_echoed = min(visit.submit.num_echoed_tokens or 0, len(_prompt(visit.submit)))
            assert self._world.is_tie(visit, index, parting - num_echoed, found.token_ids[parting]), told
            self.num_ties += 1
            return
        most = visit.submit.cache_max_tokens
        assert most is None or found.num_cached_tokens <= most, told
        if visit.leaves_at is not None and found.finish_reason is None:
            assert expected.token_ids[: len(found.token_ids)] == found.token_ids, told
            assert expected.text.startswith(found.text), told
        else:
            assert (found.token_ids, found.text) == (expected.token_ids, expected.text), told
            assert found.finish_reason == expected.finish_reason, told
        assert _are_alike(expected.logprobs, found.logprobs), told


def _prompt(submit: Submit) -> list[int]:
    token_ids: list[int] = submit.prompt.token_ids  # type: ignore[union-attr]
    return token_ids


def _parting(expected: list[int], found: list[int]) -> int | None:
    """Where both go on, and differently."""
    return next((i for i, (one, other) in enumerate(zip(expected, found, strict=False)) if one != other), None)


def _are_alike(expected: list[TokenLogprob], found: list[TokenLogprob]) -> bool:
    """Logprobs differ in the last bits; the order of alternatives may with them."""
    for one, other in zip(expected, found, strict=False):
        values = [one.logprob, *(top.logprob for top in one.top)], [other.logprob, *(top.logprob for top in other.top)]
        if one.token_id != other.token_id or values[0] != pytest.approx(values[1], abs=1e-3):
            return False
    return True


def test_output_alone_equals_output_in_a_hostile_batch(world: World) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    judge = Judge(world)
    num_batches = 0
    while judge.num_cases < NUM_CASES:
        num_batches += 1
        visits = [draw_visit(rng, f"{num_batches}-{i}") for i in range(NUM_VISITS)]
        together = world.play(world.draw_engine(rng), visits)
        for visit in visits:
            request_id = visit.submit.request_id
            judge.compare(visit, world.play(world.engine(), [alone(visit)])[request_id], together[request_id])
    assert judge.num_ties <= NUM_TIES_MAX, f"{judge.num_ties} ties in {judge.num_cases} cases"
