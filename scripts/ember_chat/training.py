"""Trains a small Llama from random weights on the encoded corpus.

Conversations are packed into rows; a token sees only its own conversation. Matrices learn by Muon, which needs
about half the tokens that AdamW needs here, the rest by AdamW. Weights stay float32, products are bfloat16.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from scripts.ember_chat.tokenizer import CONTEXT_LENGTH, Sample

ROW_LENGTHS = (384, CONTEXT_LENGTH // 2)
"""A conversation goes into a row of the first length that holds it; longer ones are left out."""
BATCH_TOKENS = 2048
MATRIX_LEARNING_RATE = 0.01
OTHER_LEARNING_RATE = 0.003
WEIGHT_DECAY = 0.1
WARM_UP_STEPS = 20
GRADIENT_NORM_MAX = 1.0
_PACKING_WINDOW = 400

ReportStep = Callable[[int, int, float, float], None]
"""Called with step, number of steps, loss and tokens per second."""


class Batch(NamedTuple):
    token_ids: Tensor
    """[rows, row length]; the end of a row is padding."""
    position_ids: Tensor
    """Begins at 0 with each conversation."""
    conversation: Tensor
    """Which conversation of its row a token belongs to."""
    is_learned: Tensor


def build_model(vocab_size: int, pad_token_id: int, eos_token_id: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=256,
            intermediate_size=640,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
        )
    )


def train(model: LlamaForCausalLM, samples: list[Sample], rng: random.Random, report: ReportStep) -> None:
    """One pass over the samples."""
    batches = list(pack(samples, rng))
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=MATRIX_LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=OTHER_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, len(batches)))
        for optimizer in optimizers
    ]
    model.train()
    # Plain matrix products: on a CPU the backward pass of fused attention takes longer than the rest of the model.
    model.set_attn_implementation("eager")
    for step, batch in enumerate(batches, start=1):
        started = time.perf_counter()
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM_MAX)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        report(step, len(batches), loss.item(), batch.token_ids.numel() / (time.perf_counter() - started))


def learning_rate_factor(step: int, num_steps: int) -> float:
    """Rises over the warm-up, then falls to zero in a straight line."""
    return min((step + 1) / WARM_UP_STEPS, (num_steps - step) / num_steps)


def loss_of(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean cross-entropy of the learned tokens; logits are computed for these alone."""
    is_visible = (batch.conversation[:, None, :, None] == batch.conversation[:, None, None, :]).tril()
    mask = torch.zeros(is_visible.shape).masked_fill(~is_visible, torch.finfo(torch.bfloat16).min)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(
            batch.token_ids, attention_mask=mask, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][batch.is_learned[:, 1:]])
    return nn.functional.cross_entropy(logits.float(), batch.token_ids[:, 1:][batch.is_learned[:, 1:]])


def pack(samples: list[Sample], rng: random.Random) -> Iterator[Batch]:
    """Batches in random order of rows filled first-fit, longest first within a window of samples."""
    batches: list[Batch] = []
    shorter = 0
    for row_length in ROW_LENGTHS:
        fitting = [sample for sample in samples if shorter < len(sample.token_ids) <= row_length]
        rows = [
            row
            for start in range(0, len(fitting), _PACKING_WINDOW)
            for row in _fill_rows(fitting[start : start + _PACKING_WINDOW], row_length)
        ]
        rng.shuffle(rows)
        num_rows = BATCH_TOKENS // row_length
        batches += [_stack(rows[start : start + num_rows], row_length) for start in range(0, len(rows), num_rows)]
        shorter = row_length
    rng.shuffle(batches)
    yield from batches


def _fill_rows(samples: list[Sample], row_length: int) -> list[list[Sample]]:
    rows: list[list[Sample]] = []
    left: list[int] = []
    for sample in sorted(samples, key=lambda sample: -len(sample.token_ids)):
        needed = len(sample.token_ids)
        row = next((index for index, room in enumerate(left) if room >= needed), None)
        if row is None:
            rows.append([])
            left.append(row_length)
            row = -1
        rows[row].append(sample)
        left[row] -= needed
    return rows


def _stack(rows: list[list[Sample]], row_length: int) -> Batch:
    token_ids = torch.zeros(len(rows), row_length, dtype=torch.long)
    position_ids = torch.zeros_like(token_ids)
    conversation = torch.full_like(token_ids, -1)
    is_learned = torch.zeros_like(token_ids, dtype=torch.bool)
    for row, samples in enumerate(rows):
        start = 0
        for index, sample in enumerate(samples):
            end = start + len(sample.token_ids)
            token_ids[row, start:end] = torch.tensor(sample.token_ids)
            position_ids[row, start:end] = torch.arange(end - start)
            conversation[row, start:end] = index
            is_learned[row, start:end] = torch.tensor(sample.is_learned)
            start = end
    return Batch(token_ids, position_ids, conversation, is_learned)
