"""The sampler's rules over one row, one token at a time, in float64: slow, and as the documents put them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.submission import SamplingParams

Floats = NDArray[np.float64]


def distribution(
    logits: Sequence[float],
    params: SamplingParams,
    *,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
    allowed: set[int] | None = None,
    mu: float | None = None,
) -> Floats:
    """What the next token is drawn from."""
    adjusted = adjust(logits, params, prompt=prompt, output=output, allowed=allowed)
    if params.temperature == 0:
        return only(int(adjusted.argmax()), len(logits))
    shares = softmax(adjusted / params.temperature)
    if params.mirostat_target is not None:
        return mirostat(shares, 2 * params.mirostat_target if mu is None else mu)
    shares = typical(shares, params.typical_p)
    shares = top_k(shares, params.top_k)
    shares = top_p(shares, params.top_p)
    return normalise(np.where(shares >= params.min_p * shares.max(), shares, 0))


def adjust(
    logits: Sequence[float],
    params: SamplingParams,
    *,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
    allowed: set[int] | None = None,
) -> Floats:
    result = np.array(logits, dtype=np.float64)
    for token_id in range(len(result)):
        if allowed and token_id not in allowed:
            result[token_id] = -math.inf
        result[token_id] += params.logit_bias.get(token_id, 0)
        if token_id in prompt or token_id in output:
            penalty = params.repetition_penalty
            result[token_id] *= 1 / penalty if result[token_id] > 0 else penalty
        count = list(output).count(token_id)
        result[token_id] -= count * params.frequency_penalty + (count > 0) * params.presence_penalty
    return result


def mirostat(shares: Floats, mu: float) -> Floats:
    kept = np.array([share if share > 0 and -math.log2(share) <= mu else 0 for share in shares])
    return normalise(kept) if kept.any() else only(int(shares.argmax()), len(shares))


def typical(shares: Floats, mass: float) -> Floats:
    if mass >= 1:
        return shares
    surprises = np.array([-math.log(share) if share > 0 else math.inf for share in shares])
    entropy = sum(share * surprise for share, surprise in zip(shares, surprises, strict=True) if share > 0)
    distances = np.abs(surprises - entropy)
    return normalise(np.where(distances <= last_kept(distances, shares, mass), shares, 0))


def top_k(shares: Floats, k: int) -> Floats:
    return shares if k == 0 else normalise(np.where(shares >= np.sort(shares)[-min(k, len(shares))], shares, 0))


def top_p(shares: Floats, mass: float) -> Floats:
    return shares if mass >= 1 else normalise(np.where(-shares <= last_kept(-shares, shares, mass), shares, 0))


def last_kept(ranks: Floats, shares: Floats, mass: float) -> float:
    """The rank of the token with which the shares, best rank first, reach the mass."""
    reached = 0.0
    last = 0.0
    for index in np.argsort(ranks, kind="stable"):
        reached += shares[index]
        last = float(ranks[index])
        if reached >= mass:
            break
    return last


def only(token_id: int, vocab_size: int) -> Floats:
    shares = np.zeros(vocab_size)
    shares[token_id] = 1
    return shares


def softmax(logits: Floats) -> Floats:
    return normalise(np.exp(logits - logits.max()))


def normalise(shares: Floats) -> Floats:
    normalised: Floats = shares / shares.sum()
    return normalised
