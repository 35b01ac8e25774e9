import random

import pytest

from runtime.llm.speculation.prediction import PredictionProposer

PREDICTION = list(range(100, 160))


def follow(prediction: list[int], output: list[int], length: int = 4) -> tuple[int, int]:
    """Steps, and drafted tokens that were wrong, when exactly this output comes."""
    proposer = PredictionProposer(prediction)
    written: list[int] = []
    num_steps = num_wrong = 0
    while len(written) < len(output):
        draft = proposer.propose(written, length)
        rest = output[len(written) :]
        num_accepted = next((i for i, (a, b) in enumerate(zip(draft, rest, strict=False)) if a != b), len(draft))
        written += rest[: num_accepted + 1]
        num_wrong += max(0, min(len(draft), len(rest)) - num_accepted)
        num_steps += 1
    return num_steps, num_wrong


def test_a_prediction_that_holds_is_proposed_from_the_first_token_to_the_last() -> None:
    assert follow(PREDICTION, PREDICTION) == (len(PREDICTION) / 5, 0)
    proposer = PredictionProposer([1, 2, 3])
    assert proposer.propose([], 9) == [1, 2, 3]
    assert proposer.propose([1, 2], 9) == [3]
    assert proposer.propose([1, 2, 3], 9) == []


@pytest.mark.parametrize(
    "output",
    [
        [*PREDICTION[:20], 7, *PREDICTION[21:]],
        [*PREDICTION[:20], 7, 8, 9, *PREDICTION[20:]],
        [*PREDICTION[:20], *PREDICTION[30:]],
        [1, 2, 3, 4, 5, *PREDICTION],
        [*PREDICTION[30:], *PREDICTION[:30]],
    ],
    ids=["replaced", "inserted", "deleted", "begins later", "swapped"],
)
def test_after_an_edit_it_finds_its_place_again(output: list[int]) -> None:
    num_steps, num_wrong = follow(PREDICTION, output)
    assert num_steps <= len(PREDICTION) / 5 + 9
    assert num_wrong <= 3 * 4


def test_of_several_places_the_nearby_one_is_taken() -> None:
    line = [1, 2, 3, 4]
    prediction = [*line, 10, *line, 11, *line, 12, *line, 13]
    proposer = PredictionProposer(prediction)
    assert proposer.propose([*line, 99, 98, 97, *line], 1) == [11]


def test_a_prediction_that_is_all_wrong_is_given_up_after_two_tries() -> None:
    proposer = PredictionProposer(PREDICTION)
    output: list[int] = []
    drafts = []
    for token_id in range(50):
        drafts.append(proposer.propose(output, 4))
        output.append(token_id)
    assert [bool(draft) for draft in drafts] == [True, True] + [False] * 48


def test_any_output_is_followed_without_harm() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        prediction = [chance.randrange(3) for _ in range(chance.randrange(30))]
        output = [chance.randrange(3) for _ in range(30)]
        num_steps, _ = follow(prediction, output)
        assert num_steps <= 30, f"seed {seed}"
