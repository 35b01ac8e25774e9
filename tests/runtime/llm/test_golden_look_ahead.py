"""The engine with look-ahead against the same engine without: every answer the same, to the bit where the batch is.

In float32 on a CPU, where nothing is gained by it and everything can be compared.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from runtime.llm.engine import LlmEngine
from runtime.llm.request import Generation, Request, TokenOutput
from runtime.settings import Speculation
from runtime.submission import SamplingParams
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_engine import BLOCK_SIZE, GREEDY, TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import VOCAB_SIZE, build_tiny_model

SAMPLINGS = [
    GREEDY,
    SamplingParams(temperature=0.9, top_p=0.95, top_k=40, min_p=0.01),
    SamplingParams(temperature=1.5, typical_p=0.7),
    SamplingParams(temperature=0.8, repetition_penalty=1.3, frequency_penalty=0.5, presence_penalty=0.2),
    SamplingParams(temperature=2.0, mirostat_target=3.0, mirostat_lr=0.5),
    SamplingParams(temperature=0.0, logit_bias={5: 20.0}, frequency_penalty=2.0),
]
PROMPT_LENGTHS = [1, BLOCK_SIZE - 1, BLOCK_SIZE, 3 * BLOCK_SIZE + 5]


class NoneTwiceInARow:
    """Of three classes of tokens none may come twice in a row; after so many tokens nothing may."""

    def __init__(self, num_tokens: int = 1000) -> None:
        self.was_asked_in_vain = False
        self._num_tokens = num_tokens
        self._accepted: list[int] = []

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        self.was_asked_in_vain |= self.is_complete
        bits = [not self._accepted or token_id % 3 != self._accepted[-1] % 3 for token_id in range(32 * len(mask))]
        mask[:] = np.packbits(bits, bitorder="little").view(np.int32)
        return True

    def accept(self, token_id: int) -> None:
        if self._accepted and token_id % 3 == self._accepted[-1] % 3:
            raise ValueError("the same class twice")
        self._accepted.append(token_id)

    def roll_back(self, num_tokens: int) -> None:
        del self._accepted[len(self._accepted) - num_tokens :]

    @property
    def is_complete(self) -> bool:
        return len(self._accepted) >= self._num_tokens


class World(NamedTuple):
    tiny: TinyModel
    prompts: list[list[int]]
    addon: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = build_tiny_model(tmp_path_factory.mktemp("llama"), "llama")
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]
    return World(TinyModel(directory), prompts, build_tiny_addon(tmp_path_factory.mktemp("addon"), directory))


class CountedSteps:
    """An engine's runner, counting the steps that were launched before the one before them was retired."""

    def __init__(self, engine: LlmEngine) -> None:
        self.num_ahead = 0
        self._engine = engine
        self._runner = engine._runner
        engine._runner = self

    def launch(self, batch: Any) -> Any:
        self.num_ahead += self._engine._pending is not None
        return self._runner.launch(batch)


def both(
    world: World, make: Callable[[], list[Request]], *, steps_between: int = 1, **settings: Any
) -> tuple[list[list[TokenOutput]], list[list[TokenOutput]]]:
    """What the requests give without look-ahead and with it."""
    plain = run(world.tiny.engine(**settings), make(), steps_between=steps_between)
    engine = world.tiny.engine(look_ahead=True, **settings)
    steps = CountedSteps(engine)
    ahead = run(engine, make(), steps_between=steps_between)
    assert steps.num_ahead > 0
    stats = engine.stats()
    assert stats.num_free_blocks == stats.num_blocks
    return plain, ahead


def told(outputs: list[list[TokenOutput]]) -> list[list[tuple[int, str | None, bool]]]:
    return [[(output.token_id, output.finish_reason, output.ends_sentence) for output in own] for own in outputs]


def requests(world: World, *, max_tokens: int = 12) -> list[Request]:
    """Every prompt by every way of sampling."""
    cases = [(prompt, sampling) for sampling in SAMPLINGS for prompt in world.prompts]
    return [
        make_request(prompt, request_id=str(i), sampling=sampling, seed=i, max_tokens=max_tokens)
        for i, (prompt, sampling) in enumerate(cases)
    ]


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_blocks": 9, "max_batch_tokens": 7}, {"enable_prefix_cache": False, "max_batch_tokens": 3}],
    ids=["together", "preempted", "in chunks"],
)
def test_every_way_of_sampling(world: World, settings: dict[str, Any]) -> None:
    made: list[Request] = []

    def make() -> list[Request]:
        made[:] = requests(world)
        return made

    plain, ahead = both(world, make, **settings)
    assert told(ahead) == told(plain)
    if "num_blocks" in settings:
        assert any(request.num_preemptions for request in made)


def test_a_request_alone_is_the_same_to_the_bit(world: World) -> None:
    for index, sampling in enumerate(SAMPLINGS):

        def make(sampling: SamplingParams = sampling, index: int = index) -> list[Request]:
            return [make_request(world.prompts[-1], sampling=sampling, seed=index, num_logprobs=3)]

        ([plain], [ahead]) = both(world, make)
        assert [(one.token_id, one.logprob, one.top) for one in ahead] == [
            (one.token_id, one.logprob, one.top) for one in plain
        ]


def test_ends_of_every_kind(world: World) -> None:
    constraints: list[NoneTwiceInARow] = []
    [expected] = token_ids(run(world.tiny.engine(), [make_request(world.prompts[1], max_tokens=20)]))

    def make() -> list[Request]:
        made = [
            make_request(world.prompts[1], request_id=f"at most {max_tokens}", max_tokens=max_tokens)
            for max_tokens in (1, 2, 3, 20)
        ]
        for index in (0, 3, 7):
            made.append(make_request(world.prompts[1], request_id=f"stop at {index}", max_tokens=20))
            made[-1].stop_token_ids = frozenset({expected[index]})
        for num_tokens in (1, 4):
            made.append(make_request(world.prompts[1], request_id=f"complete after {num_tokens}", max_tokens=20))
            made[-1].constraint = NoneTwiceInARow(num_tokens)
            constraints.append(made[-1].constraint)
        return made

    for num_blocks in (200, 7):
        plain, ahead = both(world, make, num_blocks=num_blocks)
        assert told(ahead) == told(plain)
    assert not any(constraint.was_asked_in_vain for constraint in constraints)


def test_constraints_beside_neighbours_and_penalties(world: World) -> None:
    def make() -> list[Request]:
        made = requests(world)
        for request in made[::2]:
            request.constraint = NoneTwiceInARow()
        return made

    plain, ahead = both(world, make)
    assert told(ahead) == told(plain)
    for own in token_ids(ahead)[::2]:
        assert all(one % 3 != other % 3 for one, other in pairwise(own))


def test_speculation_beside_requests_that_nobody_guesses_for(world: World) -> None:
    plain = token_ids(run(world.tiny.engine(), requests(world)))

    def make() -> list[Request]:
        made = requests(world)
        for i in range(0, len(made), 5):
            made[i].prediction = [*plain[i][:6], 1, *plain[i][7:]]
        return made

    engine = world.tiny.engine(look_ahead=True, num_blocks=60)
    steps = CountedSteps(engine)
    assert token_ids(run(engine, make())) == plain
    assert steps.num_ahead > 0, "once nobody is left who is guessed for"
    engine = world.tiny.engine(look_ahead=True, speculation=Speculation(ngram_length=2, num_draft_tokens=3))
    assert token_ids(run(engine, make())) == plain


def test_a_draft_model_follows_every_step(world: World) -> None:
    engine = world.tiny.engine(
        look_ahead=True, speculation=Speculation(num_draft_tokens=3), draft_model=world.tiny.draft_model()
    )
    steps = CountedSteps(engine)
    made = requests(world)[: len(PROMPT_LENGTHS)]
    expected = token_ids(run(world.tiny.engine(), requests(world)[: len(PROMPT_LENGTHS)]))
    assert token_ids(run(engine, made)) == expected
    assert steps.num_ahead == 0


def test_logprobs_of_prompts_and_of_neighbours(world: World) -> None:
    def make() -> list[Request]:
        made = [
            make_request(prompt, request_id=str(i), num_logprobs=2, seed=i, sampling=SAMPLINGS[i % 4])
            for i, prompt in enumerate(world.prompts * 2)
        ]
        for request in made[3::2]:
            request.num_prompt_logprobs = len(request.prompt_token_ids) - 1
        return made

    plain, ahead = both(world, make, max_batch_tokens=7)
    for one, other in zip(plain, ahead, strict=True):
        assert [output.token_id for output in one] == [output.token_id for output in other]
        assert [output.logprob for output in one] == pytest.approx([output.logprob for output in other], abs=1e-4)
        (of_plain, of_ahead) = (own[0].prompt_logprobs for own in (one, other))
        assert [token.token_id for token in of_plain] == [token.token_id for token in of_ahead]
        assert [token.logprob for token in of_plain] == pytest.approx([t.logprob for t in of_ahead], abs=1e-4)


def test_adapters(world: World) -> None:
    adapter = world.tiny.adapter(world.addon)

    def make() -> list[Request]:
        made = requests(world)
        for request in made[::2]:
            request.adapter = adapter
        return made

    plain, ahead = both(world, make)
    assert told(ahead) == told(plain)


def test_choices_share_their_prompt_and_the_next_turn_finds_what_was_computed(world: World) -> None:
    def play(engine: LlmEngine) -> list[Any]:
        choices = [make_request(world.prompts[-1], sampling=SAMPLINGS[1], seed=seed) for seed in range(3)]
        for index, choice in enumerate(choices):
            choice.index = index
        engine.add(Generation("r", choices))
        outputs: dict[int, list[int]] = {0: [], 1: [], 2: []}
        while engine.has_work():
            for output in engine.step():
                assert isinstance(output, TokenOutput)
                outputs[output.index].append(output.token_id)
            engine.check_integrity()
        turn = [*world.prompts[-1], *outputs[1], 9, 9]
        found = run(engine, [make_request(turn, request_id="turn")])
        return [outputs, token_ids(found), found[0][0].num_cached_tokens]

    plain, ahead = (play(world.tiny.engine(look_ahead=look_ahead)) for look_ahead in (False, True))
    assert ahead == plain
    num_cached: int = ahead[2]
    assert num_cached == (len(world.prompts[-1]) + 12 - 1) // BLOCK_SIZE * BLOCK_SIZE


@pytest.mark.parametrize("num_steps", range(1, 6))
def test_who_is_aborted_while_its_step_is_on_its_way_leaves_the_others_as_they_are(
    world: World, num_steps: int
) -> None:
    engine = world.tiny.engine(look_ahead=True, num_blocks=20)
    expected = token_ids(run(world.tiny.engine(), [make_request(world.prompts[2])]))
    staying = make_request(world.prompts[2], request_id="staying")
    leaving = [make_request(prompt, request_id=f"leaving {i}") for i, prompt in enumerate(world.prompts)]
    for request in [*leaving, staying]:
        engine.add(Generation(request.request_id, [request]))
    found: list[int] = []
    for step in range(100):
        if step == num_steps:
            for request in leaving:
                engine.abort(request.request_id)
                engine.check_integrity()
            newcomer = make_request(world.prompts[3], request_id="newcomer")
            engine.add(Generation("newcomer", [newcomer]))
        outputs = engine.step() if engine.has_work() else []
        engine.check_integrity()
        assert step < num_steps or not any(output.request_id.startswith("leaving") for output in outputs)
        found += [o.token_id for o in outputs if isinstance(o, TokenOutput) and o.request_id == "staying"]
    assert [found] == expected
    stats = engine.stats()
    assert stats.num_free_blocks == stats.num_blocks
