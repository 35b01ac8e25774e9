from runtime.llm.speculation.ngram import PROMPT_TOKENS_MAX, NgramProposer


def test_what_followed_the_longest_match_is_proposed() -> None:
    prompt = [1, 2, 3, 4, 5, 9, 2, 3, 7, 8]
    assert NgramProposer(prompt, 3).propose([1, 2, 3], 2) == [4, 5]
    assert NgramProposer(prompt, 3).propose([9, 2, 3], 3) == [7, 8, 9]
    assert NgramProposer(prompt, 2).propose([1, 2, 3], 2) == [7, 8], "two tokens are matched; the latest place wins"


def test_the_output_is_searched_as_it_grows() -> None:
    proposer = NgramProposer([0], 3)
    output = [5, 6, 7, 8]
    assert proposer.propose(output, 4) == []
    output += [5, 6]
    assert proposer.propose(output, 2) == [7, 8]
    output += [7]
    assert proposer.propose(output, 2) == [8, 5]


def test_a_repetition_goes_on_in_circles() -> None:
    assert NgramProposer([4, 1, 2, 1, 2], 2).propose([], 5) == [1, 2, 1, 2, 1]


def test_nothing_is_proposed_for_what_was_never_there() -> None:
    assert NgramProposer([1, 2, 3], 4).propose([9], 4) == []
    assert NgramProposer([1], 4).propose([], 4) == []


def test_only_the_end_of_a_long_prompt_is_searched() -> None:
    prompt = [7, 8, 9, *range(10, 10 + PROMPT_TOKENS_MAX)]
    assert NgramProposer(prompt, 2).propose([7, 8], 1) == []
    assert NgramProposer(prompt, 2).propose([20, 21], 1) == [22]
