"""All pairs: few cases in which every value of every factor meets every value of every other one."""

from itertools import combinations, product
from random import Random


def all_pairs(factors: dict[str, list[str]]) -> list[dict[str, str]]:
    """Cases by factor; the same ones in the same order each time. Greedy: near the least number, and quick to find."""
    names = list(factors)
    uncovered = {
        frozenset({(one, a), (other, b)})
        for one, other in combinations(names, 2)
        for a, b in product(factors[one], factors[other])
    }
    ties = Random(0)  # always choosing the first of equals needs twice as many cases
    cases = []
    while uncovered:
        case = dict(min(sorted(pair) for pair in uncovered))
        while len(case) < len(names):
            open_items = [(name, value) for name in names if name not in case for value in factors[name]]
            name, value = max(open_items, key=lambda item: (_num_new(uncovered, case, item), ties.random()))
            case[name] = value
        uncovered -= {frozenset(pair) for pair in combinations(case.items(), 2)}
        cases.append({name: case[name] for name in names})
    return cases


def _num_new(uncovered: set[frozenset[tuple[str, str]]], case: dict[str, str], item: tuple[str, str]) -> int:
    return sum(frozenset({known, item}) in uncovered for known in case.items())
