"""Trains a small Whisper from random weights on speech that is made while it learns.

Most windows are short, for time goes with their length; towards the end they are as long as the ones that Whisper
hears. Some attention heads are told where each word is said: the model learns to read sooner, and words get times.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from scripts.ember_whisper.lessons import IGNORED, Batch, draw_batch
from scripts.ember_whisper.sound import NUM_MEL_BINS
from scripts.ember_whisper.tokenizer import Vocabulary
from scripts.ember_whisper.windows import WINDOW_FRAMES, Speaker

WIDTH = 128
NUM_ENCODER_LAYERS = 3
NUM_DECODER_LAYERS = 3
NUM_HEADS = 4
ALIGNMENT_HEADS = ((2, 0), (2, 1))
"""Decoder layer and head."""
HEAD_OFFSETS = ((-3, -1, 1, 3), (-6, -2, 2, 6), (-12, -4, 4, 12))
"""By encoder layer and head: where it looks at first, in positions of 20 ms."""
SIGHT_SHARPNESS = 1.4
"""One head then sees some three positions."""
MATRIX_LEARNING_RATE = 0.01
OTHER_LEARNING_RATE = 0.003
WEIGHT_DECAY = 0.05
NUM_WARM_UP_STEPS = 120
CLOCK_SCALE = 0.1
KEPT_PADDING = 16
"""Positions right behind the sound, which the encoder's neighbourly heads see from there."""
PADDING_STRIDE = 32
"""One position of so many stands for the others, further behind."""
WINDOW_POSITIONS = WINDOW_FRAMES // 2
ALIGNMENT_WEIGHT = 0.5
NAMING_WEIGHT = 1.0

SHORT_FRAMES = (200, 300, 400, 600)
LONG_FRAMES = (1000, 1500, WINDOW_FRAMES)

ReportStep = Callable[[int, "Losses"], None]
"""Called after each step with its number."""


class Stage(NamedTuple):
    """Some steps of the training."""

    num_steps: int
    lengths: tuple[int, ...]
    """Of windows, in frames: one is drawn for each step."""
    rate_begin: float
    """Of the learning rates; from here to `rate_end` in a straight line."""
    rate_end: float


STAGES = (
    Stage(2400, SHORT_FRAMES, 1.0, 1.0),
    Stage(3600, SHORT_FRAMES + LONG_FRAMES, 1.0, 0.0),
    Stage(2000, (300, 600) + 2 * LONG_FRAMES, 0.5, 0.0),
)
"""Reading is learned from short windows, of which there are many in a second; long ones come when it is known."""


class Losses(NamedTuple):
    writing: Tensor
    """Of the decoder's answer."""
    alignment: Tensor
    """Of attention that is elsewhere than at the word."""
    naming: Tensor
    """Of the encoder, by position."""

    @property
    def weighted(self) -> Tensor:
        return self.writing + ALIGNMENT_WEIGHT * self.alignment + NAMING_WEIGHT * self.naming


def build_model(vocabulary: Vocabulary) -> WhisperForConditionalGeneration:
    config = WhisperConfig(
        vocab_size=vocabulary.size,
        num_mel_bins=NUM_MEL_BINS,
        d_model=WIDTH,
        encoder_layers=NUM_ENCODER_LAYERS,
        decoder_layers=NUM_DECODER_LAYERS,
        encoder_attention_heads=NUM_HEADS,
        decoder_attention_heads=NUM_HEADS,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        pad_token_id=vocabulary.end,
        bos_token_id=vocabulary.end,
        eos_token_id=vocabulary.end,
        decoder_start_token_id=vocabulary.start,
        attn_implementation="sdpa",
        use_cache=False,
    )
    model = WhisperForConditionalGeneration(config)
    _begin_with_short_sight(model)
    _begin_with_clocks(model, vocabulary)
    return model


def _begin_with_short_sight(model: WhisperForConditionalGeneration) -> None:
    """Weights to begin with: sound is as loud as positions are, and the encoder's heads look at their neighbours.

    From usual random weights the model spends most of its time on finding out which positions are near.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "embed" not in name and "proj_out" not in name:
            nn.init.xavier_uniform_(parameter)
    encoder = model.model.encoder
    with torch.no_grad():
        encoder.conv1.weight.mul_(2.0)
        encoder.conv2.weight.mul_(1.5)
        for layer, offsets in zip(encoder.layers, HEAD_OFFSETS, strict=True):
            for head, offset in enumerate(offsets):
                rows = slice(head * WIDTH // NUM_HEADS, (head + 1) * WIDTH // NUM_HEADS)
                layer.self_attn.q_proj.weight[rows] = _position_reader(0) * SIGHT_SHARPNESS
                layer.self_attn.k_proj.weight[rows] = _position_reader(-offset) * SIGHT_SHARPNESS


def _begin_with_clocks(model: WhisperForConditionalGeneration, vocabulary: Vocabulary) -> None:
    """Times are written as the encoder writes positions: one thing to learn instead of one for each of 1501 tokens."""
    first = vocabulary.timestamp(0)
    with torch.no_grad():
        written = model.model.decoder.embed_tokens.weight
        positions = model.model.encoder.embed_positions.weight
        written[first : first + len(positions)] = positions * CLOCK_SCALE
        written[first + len(positions) :] = positions[-1] * CLOCK_SCALE


def _position_reader(offset: int) -> Tensor:
    """Of one head: reads the position so many places further from the fastest of Whisper's waves."""
    num_waves, num_read = WIDTH // 2, WIDTH // NUM_HEADS // 2
    angles = torch.exp(-math.log(10_000) / (num_waves - 1) * torch.arange(num_read)) * offset
    reader = torch.zeros(2 * num_read, WIDTH)
    wave = torch.arange(num_read)
    reader[wave, wave] = reader[num_read + wave, num_waves + wave] = angles.cos()
    reader[wave, num_waves + wave] = angles.sin()
    reader[num_read + wave, wave] = -angles.sin()
    return reader


def train(
    model: WhisperForConditionalGeneration,
    vocabulary: Vocabulary,
    speaker: Speaker,
    rng: random.Random,
    report: ReportStep,
    stages: Sequence[Stage] = STAGES,
) -> None:
    # Names are numbered as the text tokens are; the special token that ends a text names what is no word.
    namer = nn.Linear(WIDTH, vocabulary.end + 1)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and p.requires_grad]
    others = [p for name, p in model.named_parameters() if (p.ndim != 2 or "embed" in name) and p.requires_grad]
    others += namer.parameters()
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=MATRIX_LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=OTHER_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    model.train()
    for number, (num_frames, rate_now) in enumerate(_steps(stages, rng), start=1):
        batch = draw_batch(vocabulary, speaker, rng, num_frames)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * rate_now * min(number / NUM_WARM_UP_STEPS, 1.0)
        losses = losses_of(model, namer, batch)
        losses.weighted.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        report(number, losses)


def _steps(stages: Sequence[Stage], rng: random.Random) -> Iterator[tuple[int, float]]:
    """Of each the length of its windows, and its share of the learning rates."""
    for stage in stages:
        for step in range(stage.num_steps):
            over = step / stage.num_steps
            yield rng.choice(stage.lengths), stage.rate_begin + over * (stage.rate_end - stage.rate_begin)


def losses_of(model: WhisperForConditionalGeneration, namer: nn.Linear, batch: Batch) -> Losses:
    attention = _AlignmentHeads(model)
    with torch.autocast("cpu", torch.bfloat16):
        heard = encode(model, batch.features, batch.position)
        hidden = decode(model, batch.token_ids, heard)
        is_learned = batch.labels != IGNORED
        logits = model.proj_out(hidden[is_learned])
        names = namer(heard.hidden[:, : batch.names.shape[1]])
    writing = nn.functional.cross_entropy(logits.float(), batch.labels[is_learned])
    naming = nn.functional.cross_entropy(names.float().flatten(0, 1), batch.names.flatten())
    return Losses(writing, attention.loss(batch.word_spans), naming)


class Heard(NamedTuple):
    """What the encoder makes of windows."""

    hidden: Tensor
    """[windows, positions, width]: first those of the sound, then some of the padding."""
    mask: Tensor
    """[1, 1, 1, positions]: added to attention, so that each weighs as much as the positions that it stands for."""


def encode(model: WhisperForConditionalGeneration, features: Tensor, position: int = 0) -> Heard:
    """Nearly what transformers' encoder makes of windows that are padded to 30 s, at a fraction of its cost.

    Padding is all alike. What follows the sound closely is kept; of the rest one position stands for many.
    """
    encoder = model.model.encoder
    num_positions = features.shape[2] // 2
    positions, weights = _kept_positions(position, num_positions)
    padded = nn.functional.pad(features, (0, 2 * min(KEPT_PADDING, WINDOW_POSITIONS - position - num_positions)))
    hidden = nn.functional.gelu(encoder.conv1(padded))
    hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
    # Behind the first few the convolutions find nothing but padding.
    alike = hidden[:, -1:].expand(-1, len(positions) - hidden.shape[1], -1)
    hidden = torch.cat([hidden, alike], dim=1) + encoder.embed_positions.weight[positions]
    mask = weights.log()[None, None, None]
    for layer in encoder.layers:
        output = layer(hidden, mask)
        hidden = output[0] if isinstance(output, tuple) else output
    return Heard(encoder.layer_norm(hidden), mask)


def _kept_positions(first: int, num_positions: int) -> tuple[Tensor, Tensor]:
    """From the window's position `first` on; and how many each stands for."""
    near = torch.arange(first, min(first + num_positions + KEPT_PADDING, WINDOW_POSITIONS))
    begin = int(near[-1]) + 1
    far = torch.arange(begin + (WINDOW_POSITIONS - begin) % PADDING_STRIDE, WINDOW_POSITIONS, PADDING_STRIDE)
    weights = torch.ones(len(near) + len(far))
    weights[len(near) :] = PADDING_STRIDE
    return torch.cat([near, far]), weights


def decode(model: WhisperForConditionalGeneration, token_ids: Tensor, heard: Heard) -> Tensor:
    """What transformers' decoder does, which takes no mask for what was heard."""
    decoder = model.model.decoder
    num_tokens = token_ids.shape[1]
    hidden = decoder.embed_tokens(token_ids) + decoder.embed_positions.weight[:num_tokens]
    causal = torch.full((num_tokens, num_tokens), -torch.inf).triu(1)[None, None]
    for layer in decoder.layers:
        output = layer(hidden, causal, encoder_hidden_states=heard.hidden, encoder_attention_mask=heard.mask)
        hidden = output[0] if isinstance(output, tuple) else output
    written: Tensor = decoder.layer_norm(hidden)
    return written


class _AlignmentHeads:
    """Catches queries and keys of the next forward pass, for fused attention does not show its weights."""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        self._caught: dict[tuple[int, str], Tensor] = {}
        self._hooks = []
        for layer in dict.fromkeys(layer for layer, _ in ALIGNMENT_HEADS):
            attention = model.model.decoder.layers[layer].encoder_attn
            for name, projection in (("query", attention.q_proj), ("key", attention.k_proj)):
                self._hooks.append(projection.register_forward_hook(self._catch(layer, name)))

    def _catch(self, layer: int, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self._caught[layer, name] = output.float()

        return keep

    def loss(self, word_spans: Tensor) -> Tensor:
        for hook in self._hooks:
            hook.remove()
        is_word = word_spans[..., 0] < word_spans[..., 1]
        losses = [self._loss_of_head(layer, head, word_spans, is_word) for layer, head in ALIGNMENT_HEADS]
        return torch.stack(losses).mean()

    def _loss_of_head(self, layer: int, head: int, word_spans: Tensor, is_word: Tensor) -> Tensor:
        width = WIDTH // NUM_HEADS
        columns = slice(head * width, (head + 1) * width)
        query, key = self._caught[layer, "query"][..., columns], self._caught[layer, "key"][..., columns]
        weights = (query @ key.transpose(1, 2) * width**-0.5).log_softmax(-1)[is_word]
        positions = torch.arange(weights.shape[-1])
        first, last = word_spans[is_word].unbind(-1)
        is_inside = (positions >= first[:, None]) & (positions < last[:, None])
        inside: Tensor = weights.masked_fill(~is_inside, -torch.inf).logsumexp(-1)
        return -inside.clamp(min=-20.0).mean()
