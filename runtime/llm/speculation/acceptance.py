"""How long a draft is worth while, given how the last ones of the same proposer fared in the same request.

With acceptance rate a per token a draft of k tokens brings 1 + a + a² + … + a^k tokens for one step, which costs
1 + c·k of a plain one. The best k follows; where none is better than a plain step, one token is tried now and then.
"""

_RATE_FIRST, _TRIALS_FIRST = 0.7, 3.0
"""Assumed before anything is known, with the weight of so many trials."""
_MEMORY = 0.8
"""What a trial still counts for after each further draft."""
_PAUSE_FIRST, _PAUSE_MAX = 16, 256
"""Steps without a draft before the next try; doubled with each that fails."""


class Acceptance:
    """`cost_per_token` is c, for proposing a token and verifying it."""

    def __init__(self, max_tokens: int, cost_per_token: float) -> None:
        self._max_tokens = max_tokens
        self._cost_per_token = cost_per_token
        self._num_trials = _TRIALS_FIRST
        self._num_successes = _RATE_FIRST * _TRIALS_FIRST
        self._best_length = self._find_best_length()
        self._pause = 0
        self._num_paused = 0

    @property
    def rate(self) -> float:
        """Of the tokens that were reached: behind the first that was refused nothing is known."""
        return self._num_successes / self._num_trials

    def draft_length(self) -> int:
        """For the next step; 0: none. Counts the steps of a pause, so it is asked once a step."""
        if self._best_length:
            return self._best_length
        if self._num_paused < self._pause:
            self._num_paused += 1
            return 0
        return 1

    def note(self, num_drafted: int, num_accepted: int) -> None:
        """What became of a draft."""
        self._num_successes = self._num_successes * _MEMORY + num_accepted
        self._num_trials = self._num_trials * _MEMORY + num_accepted + (num_accepted < num_drafted)
        self._best_length = self._find_best_length()
        self._pause = 0 if num_accepted else min(max(_PAUSE_FIRST, 2 * self._pause), _PAUSE_MAX)
        self._num_paused = 0

    def _find_best_length(self) -> int:
        best_length, best_gain, num_expected = 0, 1.0, 1.0
        for length in range(1, self._max_tokens + 1):
            num_expected += self.rate**length
            gain = num_expected / (1 + self._cost_per_token * length)
            if gain > best_gain:
                best_length, best_gain = length, gain
        return best_length
