"""That it learns; not how well, which the evaluation asks."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import WhisperForConditionalGeneration

from scripts.ember_whisper import lessons
from scripts.ember_whisper.lessons import draw_batch
from scripts.ember_whisper.tokenizer import train_tokenizer
from scripts.ember_whisper.training import (
    PADDING_STRIDE,
    WIDTH,
    Heard,
    Losses,
    Stage,
    build_model,
    decode,
    encode,
    losses_of,
    train,
)
from scripts.ember_whisper.voices import draw_voice
from scripts.ember_whisper.windows import Speaker
from tests.scripts.ember_whisper.tone_voice import ToneVoice

vocabulary = train_tokenizer()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def speaker() -> Speaker:
    return Speaker(5, draw_voice, ToneVoice())


@pytest.fixture(scope="module")
def model() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    return build_model(vocabulary).eval()


@torch.no_grad()
def test_long_windows_are_encoded_and_decoded_as_transformers_does(model: WhisperForConditionalGeneration) -> None:
    features, token_ids = torch.rand(1, 80, 3000), torch.randint(vocabulary.size, (1, 9))
    expected = model.model(features, decoder_input_ids=token_ids)
    heard = encode(model, features)
    assert torch.allclose(heard.hidden, expected.encoder_last_hidden_state, atol=1e-4)
    assert torch.allclose(decode(model, token_ids, heard), expected.last_hidden_state, atol=1e-4)


@torch.no_grad()
def test_short_windows_are_heard_nearly_as_long_ones_with_padding(model: WhisperForConditionalGeneration) -> None:
    features, token_ids = torch.rand(1, 80, 300), torch.randint(vocabulary.size, (1, 9))
    padded = model.model(functional.pad(features, (0, 2700)), decoder_input_ids=token_ids)
    heard = encode(model, features)
    assert heard.hidden.shape[1] < 250, "at a fraction of the cost"
    assert 1500 - PADDING_STRIDE < heard.mask.exp().sum().round() <= 1500, "all but a few positions are stood for"
    without_padding = Heard(heard.hidden[:, :150], heard.mask[..., :150])
    error, other_error = (
        (decode(model, token_ids, each) - padded.last_hidden_state).abs().mean() for each in (heard, without_padding)
    )
    assert error < other_error / 4


def test_at_first_the_encoder_looks_at_neighbours() -> None:
    layer = build_model(vocabulary).model.encoder.layers[0].self_attn
    positions = build_model(vocabulary).model.encoder.embed_positions.weight
    query, key = positions @ layer.q_proj.weight[:32].T, positions @ layer.k_proj.weight[:32].T
    nearest = (query[100] @ key.T).argmax().item()
    assert abs(int(nearest) - 97) <= 1


def test_it_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "BATCH_FRAMES", 400)
    model = build_model(vocabulary)
    namer = nn.Linear(WIDTH, vocabulary.end + 1)
    batch = draw_batch(vocabulary, speaker(), random.Random(1), 200)
    before = losses_of(model, namer, batch)
    assert all(torch.isfinite(loss) for loss in before)
    seen: list[Losses] = []
    stages = (Stage(5, (200,), 1.0, 1.0), Stage(3, (250,), 1.0, 0.0))
    train(model, vocabulary, speaker(), random.Random(2), lambda step, losses: seen.append(losses), stages)
    assert seen[-1].weighted < seen[0].weighted
