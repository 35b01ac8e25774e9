"""The rules that change single logits: the constraint's mask, logit_bias, and the penalties, in this order.

Each is one pass over all rows that have it. Formulas, with c the number of times a token stands in the output:
logit += bias; a token of prompt or output is divided by repetition_penalty if positive, else multiplied by it;
logit -= c * frequency_penalty + (c > 0) * presence_penalty.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.llm.sampling.kernels import SamplingKernels
from runtime.llm.sampling.rows import SampledRow
from runtime.llm.transfer import indices_on, to_device

_LIMIT_BY_BIT = np.array([-np.inf, np.inf], dtype=np.float32)
_LIMITS = _LIMIT_BY_BIT[np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")]
"""For each byte of a mask what its eight logits may be at most: seven times as fast as unpacking bits and filling."""


def adjust(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None = None) -> torch.Tensor:
    """Change float32 `logits` [rows, vocabulary] in place; a row whose mask leaves nothing is not masked."""
    _apply_masks(logits, rows, kernels)
    entries = logits.view(-1)
    _add_biases(entries, logits.shape[1], rows)
    _apply_repetition_penalties(entries, logits.shape[1], rows)
    _subtract_penalties(entries, logits.shape[1], rows)
    return logits


def _apply_masks(logits: torch.Tensor, rows: list[SampledRow], kernels: SamplingKernels | None) -> None:
    vocab_size = logits.shape[1]
    masks = {index: _fit(row.mask, vocab_size) for index, row in enumerate(rows) if row.mask is not None}
    masks = {index: mask for index, mask in masks.items() if mask.any()}
    if not masks:
        return
    if kernels is not None:
        some = np.stack(list(masks.values()))
        kernels.forbid(logits, indices_on(logits.device, list(masks)), to_device(some, logits.device))
        return
    limits = _LIMITS.take(np.stack(list(masks.values())), axis=0).reshape(len(masks), -1)
    ceilings = to_device(limits, logits.device)[:, :vocab_size]
    if len(masks) == len(rows):
        torch.minimum(logits, ceilings, out=logits)
    else:
        where = indices_on(logits.device, list(masks))
        logits[where] = torch.minimum(logits[where], ceilings)


def _fit(mask: NDArray[np.int32], vocab_size: int) -> NDArray[np.uint8]:
    """The mask in bytes, as long as the vocabulary; what lies beyond either of the two is forbidden."""
    num_bytes = -(-vocab_size // 8)
    fitted = np.zeros(num_bytes, dtype=np.uint8)
    given = mask.astype("<i4", copy=False).view(np.uint8)[:num_bytes]
    fitted[: len(given)] = given
    fitted[-1] &= 0xFF >> (-vocab_size % 8)
    return fitted


def _add_biases(entries: torch.Tensor, vocab_size: int, rows: list[SampledRow]) -> None:
    biased = [(index, row.params.logit_bias) for index, row in enumerate(rows) if row.params.logit_bias]
    if biased:
        token_ids = [np.fromiter(bias.keys(), np.int64, len(bias)) for _, bias in biased]
        values = np.concatenate([np.fromiter(bias.values(), np.float32, len(bias)) for _, bias in biased])
        where = _entries([index for index, _ in biased], token_ids, vocab_size, entries.device)
        entries[where] += to_device(values, entries.device)


def _apply_repetition_penalties(entries: torch.Tensor, vocab_size: int, rows: list[SampledRow]) -> None:
    indices: list[int] = []
    token_ids: list[NDArray[np.int64]] = []
    penalties: list[NDArray[np.float32]] = []
    for index, row in enumerate(rows):
        if row.params.repetition_penalty != 1:
            indices.append(index)
            token_ids.append(_seen(row))
            penalties.append(np.full(len(token_ids[-1]), row.params.repetition_penalty, dtype=np.float32))
    if indices:
        where = _entries(indices, token_ids, vocab_size, entries.device)
        penalty = to_device(np.concatenate(penalties), entries.device)
        values = entries[where]
        # A token that stands in both prompt and output is written twice, with the same value.
        entries[where] = torch.where(values > 0, values / penalty, values * penalty)


def _seen(row: SampledRow) -> NDArray[np.int64]:
    draft = np.array(row.draft_token_ids, dtype=np.int64)
    if row.token_counts is None:
        return draft
    return np.concatenate([row.token_counts.prompt_token_ids, row.token_counts.output().token_ids, draft])


def _subtract_penalties(entries: torch.Tensor, vocab_size: int, rows: list[SampledRow]) -> None:
    indices: list[int] = []
    token_ids: list[NDArray[np.int64]] = []
    amounts: list[NDArray[np.float32]] = []
    for index, row in enumerate(rows):
        frequency, presence = row.params.frequency_penalty, row.params.presence_penalty
        if row.token_counts is not None and (frequency or presence):
            counted = row.token_counts.output(row.draft_token_ids)
            indices.append(index)
            token_ids.append(counted.token_ids)
            amounts.append(counted.counts * np.float32(frequency) + np.float32(presence))
    if indices:
        where = _entries(indices, token_ids, vocab_size, entries.device)
        entries[where] -= to_device(np.concatenate(amounts), entries.device)


def _entries(
    indices: list[int], token_ids: list[NDArray[np.int64]], vocab_size: int, device: torch.device
) -> torch.Tensor:
    """Where these tokens of these rows lie in the flattened logits."""
    flat = np.concatenate([index * vocab_size + ids for index, ids in zip(indices, token_ids, strict=True)])
    return to_device(flat, device)
