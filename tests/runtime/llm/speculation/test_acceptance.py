from runtime.llm.speculation.acceptance import Acceptance


def lengths(acceptance: Acceptance, num_steps: int, rate: float) -> list[int]:
    """Drafts of this many steps, when this share of each is accepted."""
    drafted = []
    for _ in range(num_steps):
        drafted.append(acceptance.draft_length())
        if drafted[-1]:
            acceptance.note(drafted[-1], int(drafted[-1] * rate))
    return drafted


def test_drafts_grow_to_the_maximum_while_all_is_accepted() -> None:
    assert lengths(Acceptance(8, 0.05), 20, 1.0)[-1] == 8


def test_drafts_end_when_nothing_is_accepted_but_for_rare_single_tokens() -> None:
    drafted = lengths(Acceptance(16, 0.05), 600, 0.0)
    assert sum(drafted[:16]) <= 24
    tries = [length for length in drafted[16:] if length]
    assert set(tries) == {1}
    assert 1 <= len(tries) <= 8


def test_a_try_that_succeeds_brings_drafts_back() -> None:
    acceptance = Acceptance(8, 0.05)
    lengths(acceptance, 200, 0.0)
    while not (length := acceptance.draft_length()):
        pass
    acceptance.note(length, length)
    assert all(lengths(acceptance, 10, 1.0))


def test_drafts_are_shorter_where_they_cost_more() -> None:
    cheap, dear = Acceptance(16, 0.02), Acceptance(16, 0.3)
    assert lengths(cheap, 30, 0.6)[-1] > lengths(dear, 30, 0.6)[-1]


def test_only_tokens_that_were_reached_count() -> None:
    acceptance = Acceptance(16, 0.05)
    for _ in range(50):
        acceptance.note(10, 4)
    assert abs(acceptance.rate - 0.8) < 0.01
