"""Which tokens of a draft stand, given what the target model chose at each of their positions.

The target chooses a token behind every drafted one as if that had been put out already, by its own distribution after
all rules and by the uniform number that belongs to the request's seed and that position. A drafted token stands if it
is the chosen one. This is rejection sampling for a proposer that proposes a single token with certainty: token d is
accepted with its probability p(d), and what is put out instead of a refused one follows p without d. So the result has
the target's distribution; moreover it is the very result that the request has without any draft, for no uniform number
depends on whether or what was drafted. That is why every proposer here, the draft model too, proposes its best token
and draws none: whether a step drafts depends on the batch, and an output must not.

Exactly equal are the results where equal inputs give equal logits. A product of several rows may be rounded otherwise
than one of a single row: in bfloat16 two tokens that are as good as equal may change places, as with any change of the
batch. Tests of equality therefore compute in float32.
"""

from collections.abc import Sequence

from runtime.llm.request import SampledToken


def accepted_part(chosen: Sequence[SampledToken], draft: Sequence[int]) -> Sequence[SampledToken]:
    """The beginning of `chosen` that has been computed on true tokens: the accepted ones and one more.

    `chosen` is one longer than `draft`, or empty where nothing was to be chosen.
    """
    for index, guess in enumerate(draft):
        if chosen[index].token_id != guess:
            return chosen[: index + 1]
    return chosen
